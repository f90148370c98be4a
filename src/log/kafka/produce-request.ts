/**
 * Produce requests (version 9): batches for partitions that one broker leads, acks all, no transaction; and their
 * answers. A request is written in one piece into memory that is used again for the next one: new memory per request
 * and the copies in between cost 2 µs per event, most of it page faults.
 */
import { CORRELATION_AT } from './frame-connection.ts'
import { writeUnsigned } from './varint.ts'

/** One batch of a request, which writes itself: exactly `bytes` bytes from `at` on. */
export type ProducePart = {
  topic: string
  partition: number
  bytes: number
  write(out: Buffer, at: number): void
}
export type ProduceAnswer = { code: number; baseOffset: number; detail: string | undefined }

const PRODUCE_API = 0
const PRODUCE_VERSION = 9
const ACKS_ALL = -1
const MEMORY_BYTES_MIN = 64 << 10
/** A length, an API, a version, a correlation id, a client's name, acks, a time: with the lengths of its lists. */
const HEAD_BYTES = 48
/** In front of a topic's and of a partition's bytes, and the empty tags behind them, at most. */
const TOPIC_BYTES = 16
const PARTITION_BYTES = 16
const INT32_VALUES = 2 ** 32

export class ProduceRequest {
  private memory = Buffer.alloc(0)
  private starts: number[] = []
  private parts: ProducePart[] = []

  constructor(private readonly clientId: string) {}

  /**
   * The whole request but for its correlation id. It lies here until the next call. `timeoutMs`: how long the broker may
   * wait for its replicas.
   */
  write(parts: ProducePart[], timeoutMs: number): Buffer {
    const byTopic = new Map<string, number[]>()
    let bytes = HEAD_BYTES + Buffer.byteLength(this.clientId)
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!
      bytes += PARTITION_BYTES + part.bytes
      const same = byTopic.get(part.topic)
      if (same) same.push(i)
      else {
        byTopic.set(part.topic, [i])
        bytes += TOPIC_BYTES + Buffer.byteLength(part.topic)
      }
    }
    const out = this.reserve(bytes)
    this.parts = parts
    this.starts = new Array(parts.length)
    out.writeInt16BE(PRODUCE_API, 4)
    out.writeInt16BE(PRODUCE_VERSION, 6)
    let at = CORRELATION_AT + 4
    const nameBytes = out.write(this.clientId, at + 2)
    at = out.writeInt16BE(nameBytes, at) + nameBytes
    out[at++] = 0 // no tags
    out[at++] = 0 // no transaction
    at = out.writeInt16BE(ACKS_ALL, at)
    at = out.writeInt32BE(timeoutMs, at)
    at = writeUnsigned(out, at, byTopic.size + 1)
    for (const [topic, indexes] of byTopic) {
      at = writeUnsigned(out, at, Buffer.byteLength(topic) + 1)
      at += out.write(topic, at)
      at = writeUnsigned(out, at, indexes.length + 1)
      for (const index of indexes) {
        const part = parts[index]!
        at = out.writeInt32BE(part.partition, at)
        at = writeUnsigned(out, at, part.bytes + 1)
        this.starts[index] = at
        part.write(out, at)
        at += part.bytes
        out[at++] = 0
      }
      out[at++] = 0
    }
    out[at++] = 0
    out.writeInt32BE(at - 4, 0)
    return out.subarray(0, at)
  }

  /** A copy of what the `index`th part of the last request wrote. */
  copyOf(index: number): Buffer {
    const start = this.starts[index]!
    return Buffer.from(this.memory.subarray(start, start + this.parts[index]!.bytes))
  }

  /** The next request has other memory: something may still look at this one's. */
  forget(): void {
    this.memory = Buffer.alloc(0)
    this.starts = []
    this.parts = []
  }

  /** Grows twofold, so that the size of requests settles it once. */
  private reserve(bytes: number): Buffer {
    if (bytes > this.memory.length)
      this.memory = Buffer.allocUnsafeSlow(Math.max(bytes, MEMORY_BYTES_MIN, this.memory.length * 2))
    return this.memory
  }
}

/** What the broker said of each partition, by `topic/partition`. Throws RangeError on an answer that breaks off. */
export function produceAnswers(answer: Buffer): Map<string, ProduceAnswer> {
  const answers = new Map<string, ProduceAnswer>()
  const cursor = new AnswerCursor(answer)
  cursor.tags()
  for (let topics = cursor.count(); topics > 0; topics--) {
    const topic = cursor.text()
    for (let partitions = cursor.count(); partitions > 0; partitions--) {
      const partition = cursor.int32()
      const code = cursor.int16()
      const baseOffset = cursor.int64()
      cursor.skip(16) // when it was appended, where the log starts
      for (let errors = cursor.count(); errors > 0; errors--) {
        cursor.skip(4)
        cursor.text()
        cursor.tags()
      }
      const detail = cursor.text()
      cursor.tags()
      answers.set(`${topic}/${partition}`, { code, baseOffset, detail })
    }
    cursor.tags()
  }
  return answers
}

class AnswerCursor {
  private at = 0
  constructor(private readonly bytes: Buffer) {}

  skip(bytes: number): void {
    if (this.at + bytes > this.bytes.length) throw new RangeError('an answer breaks off')
    this.at += bytes
  }

  int16(): number {
    this.skip(2)
    return this.bytes.readInt16BE(this.at - 2)
  }

  int32(): number {
    this.skip(4)
    return this.bytes.readInt32BE(this.at - 4)
  }

  int64(): number {
    this.skip(8)
    return this.bytes.readInt32BE(this.at - 8) * INT32_VALUES + this.bytes.readUInt32BE(this.at - 4)
  }

  private unsigned(): number {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      this.skip(1)
      const byte = this.bytes[this.at - 1]!
      value += (byte & 127) * factor
      if (byte < 128) return value
    }
  }

  /** The length of a list; none counts as empty. */
  count(): number {
    return Math.max(0, this.unsigned() - 1)
  }

  text(): string | undefined {
    const length = this.unsigned()
    if (length === 0) return undefined
    this.skip(length - 1)
    return this.bytes.toString('utf8', this.at - length + 1, this.at)
  }

  /** Fields of later versions, which have none of our interest. */
  tags(): void {
    for (let tags = this.unsigned(); tags > 0; tags--) {
      this.unsigned()
      this.skip(this.unsigned())
    }
  }
}
