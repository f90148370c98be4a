/**
 * A reader that waits: a cursor plus the wake-up by the head board.
 *
 * States: open (→ waiting → open) → closed. `next` calls are served one after the other. Memory: one piece of at
 * most `bufferBytesMax`, or one record when that is larger.
 */
import { logError } from '../errors.ts'
import type { Reader, ReaderOptions, StoredRecord } from '../log.ts'
import { outOfRange, PartitionCursor } from './cursor.ts'
import type { HeadBoard } from './head-board.ts'
import type { Slot } from './head-file.ts'
import type { TopicHandle } from './topic-handle.ts'
import { readTopic } from './topic-settings.ts'
import { worldError } from './world-error.ts'

export const PIECE_BYTES = 2 ** 20
const PIECE_BYTES_MIN = 4096

/** How large the pieces are that a reader with this buffer reads. */
export function pieceBytes(bufferBytesMax: number | undefined): number {
  return Math.max(PIECE_BYTES_MIN, Math.min(bufferBytesMax ?? PIECE_BYTES, PIECE_BYTES))
}

export class EmbeddedReader implements Reader {
  private topic: TopicHandle | undefined
  private cursor: PartitionCursor | undefined
  private turn: Promise<unknown> = Promise.resolve()
  private closed = false
  private readonly closing = new AbortController()

  constructor(
    private readonly board: HeadBoard,
    private readonly slotOf: (topic: TopicHandle, partition: number) => Promise<Slot>,
    private readonly options: ReaderOptions,
    private readonly onClose: (reader: EmbeddedReader) => void,
  ) {}

  next(limit: { records: number; bytes: number }, signal?: AbortSignal): Promise<StoredRecord[]> {
    const { topic, partition } = this.options
    const result = this.turn
      .then(() => this.read(limit, signal))
      .catch((error) => {
        throw worldError(`${topic}/${partition} cannot be read`, error)
      })
    this.turn = result.catch(() => {})
    return result
  }

  private async read(
    limit: { records: number; bytes: number },
    signal: AbortSignal | undefined,
  ): Promise<StoredRecord[]> {
    const { partition } = this.options
    for (;;) {
      if (this.closed || signal?.aborted) return []
      const { topic, cursor } = this.opened()
      if (topic.state === 'gone') throw vanished(topic, cursor.offset)
      let slot = await this.slotOf(topic, partition)
      if (cursor.offset > slot.end) {
        topic.refresh()
        slot = await this.slotOf(topic, partition)
      }
      const records = await cursor.take(slot, limit)
      if (this.closed) {
        cursor.close()
        return []
      }
      if (records.length > 0) return records
      if (topic.slot(partition) === slot) await this.change(topic, signal)
    }
  }

  private opened(): { topic: TopicHandle; cursor: PartitionCursor } {
    const { topic: name, partition, from, bufferBytesMax } = this.options
    this.topic ??= this.board.open(name)
    this.cursor ??= new PartitionCursor(this.topic, partition, from, pieceBytes(bufferBytesMax))
    return { topic: this.topic, cursor: this.cursor }
  }

  /** Resolves when there may be something new, and when nobody wants it any more. */
  private change(topic: TopicHandle, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const closing = this.closing.signal
      const done = () => {
        stop()
        signal?.removeEventListener('abort', done)
        closing.removeEventListener('abort', done)
        resolve()
      }
      const stop = topic.onChange(this.options.partition, done)
      signal?.addEventListener('abort', done)
      closing.addEventListener('abort', done)
      if (signal?.aborted || closing.aborted || topic.state === 'gone') done()
    })
  }

  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.closing.abort()
    await this.turn
    this.cursor?.close()
    this.onClose(this)
  }
}

function vanished(topic: TopicHandle, offset: number) {
  const again = readTopic(topic.layout, topic.name)
  return again
    ? logError(
        'HR_LOG_OUT_OF_RANGE',
        `topic ${topic.name} was deleted and made again: offset ${offset} was of log ${topic.logId}, now it is ${again.logId}`,
      )
    : logError('HR_LOG_NO_TOPIC', `topic ${topic.name} was deleted`)
}

/** Reads [from, to) in batches without waiting. Same errors as `Reader.next`. */
export async function* readRange(
  topic: TopicHandle,
  slotOf: (topic: TopicHandle, partition: number) => Promise<Slot>,
  partition: number,
  from: number,
  to: number,
): AsyncIterable<StoredRecord[]> {
  if (to <= from) return
  topic.refresh()
  const first = await slotOf(topic, partition)
  if (to > first.end) throw outOfRange(topic, partition, to, first)
  const cursor = new PartitionCursor(topic, partition, from, PIECE_BYTES)
  try {
    while (cursor.offset < to) {
      if (topic.state === 'gone') throw vanished(topic, cursor.offset)
      const slot = await slotOf(topic, partition)
      yield await cursor.take(slot, { records: to - cursor.offset, bytes: PIECE_BYTES })
    }
  } catch (error) {
    throw worldError(`${topic.name}/${partition} cannot be read`, error)
  } finally {
    cursor.close()
  }
}
