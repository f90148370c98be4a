/** Readers of one partition, and reads of a closed range, on top of the fetcher. */
import { logError } from '../errors.ts'
import type { Reader, ReaderOptions, StoredRecord } from '../log.ts'
import type { Admin } from './admin.ts'
import { Feed } from './feed.ts'
import type { Fetcher } from './fetcher.ts'
import { READER_BUFFER_BYTES } from './options.ts'

const RANGE_BATCH = { records: 5_000, bytes: 4 << 20 }

export class KafkaReader implements Reader {
  private readonly feed: Feed
  private busy = false
  /** Fetching begins with the first `next`: a reader that nobody asks holds no records, and no stale ones. */
  private fetching = false

  constructor(
    private readonly fetcher: Fetcher,
    options: ReaderOptions,
    alone: boolean,
    private readonly onClose: (reader: KafkaReader) => void,
  ) {
    const bufferBytesMax = options.bufferBytesMax ?? READER_BUFFER_BYTES
    this.feed = new Feed(options, alone, bufferBytesMax, () => fetcher.poke())
  }

  async next(limit: { records: number; bytes: number }, signal?: AbortSignal): Promise<StoredRecord[]> {
    if (this.busy) throw new Error(`the reader of ${this.feed.key} is asked twice at a time`)
    this.busy = true
    if (!this.fetching) {
      this.fetching = true
      this.fetcher.add(this.feed)
    }
    try {
      while (!this.feed.closed && !signal?.aborted) {
        const records = this.feed.take(limit)
        if (records) return records
        await this.feed.wait(signal)
      }
      return []
    } finally {
      this.busy = false
    }
  }

  async close(): Promise<void> {
    this.feed.close()
    this.onClose(this)
  }
}

/** [from, to) in batches. `to` above the end is out of range: the caller believes in records that are not there. */
export async function* readRange(
  fetcher: Fetcher,
  admin: Admin,
  range: { topic: string; partition: number; from: number; to: number },
): AsyncIterable<StoredRecord[]> {
  const { topic, partition, from, to } = range
  const { start, end } = await admin.bounds(topic, partition)
  if (from < start || to > end)
    throw logError(
      'HR_LOG_OUT_OF_RANGE',
      `offsets ${from} to ${to} of ${topic} partition ${partition} are not all in the log, which holds ${start} to ${end}`,
    )
  if (from >= to) return
  const reader = new KafkaReader(fetcher, { topic, partition, from }, true, () => {})
  try {
    for (let next = from; next < to; ) {
      const records = await reader.next({
        records: Math.min(RANGE_BATCH.records, to - next),
        bytes: RANGE_BATCH.bytes,
      })
      if (records.length === 0) throw logError('HR_LOG_CLOSED', 'the Kafka log was closed during a read')
      next = records[records.length - 1]!.offset + 1
      yield records
    }
  } finally {
    await reader.close()
  }
}
