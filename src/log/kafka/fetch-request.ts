/**
 * One fetch request (version 13, topics by id) over many partitions, and its answer with the record batches left as
 * bytes. By id, so that a topic that was deleted and made again is never read as the old one.
 */
import { type Callback, type Connection, fetchV13, type Reader } from '@platformatic/kafka'
import { FETCH_BYTES_MAX } from './options.ts'

export type FetchPart = { topicId: string; partition: number; offset: number; bytesMax: number }
export type FetchAnswer = { topicId: string; partition: number; code: number; records: Buffer }
export type FetchAnswers = { code: number; parts: FetchAnswer[] }

const FETCH_API = 1
const FETCH_VERSION = 13
const NO_SESSION = { id: 0, epoch: -1 }

export function sendFetch(
  connection: Connection,
  parts: FetchPart[],
  waitMs: number,
  done: Callback<FetchAnswers>,
): void {
  const topics = new Map<string, fetchV13.FetchRequestTopic>()
  for (const { topicId, partition, offset, bytesMax } of parts) {
    let topic = topics.get(topicId)
    if (!topic) {
      topic = { topicId, partitions: [] }
      topics.set(topicId, topic)
    }
    topic.partitions.push({
      partition,
      currentLeaderEpoch: -1,
      fetchOffset: BigInt(offset),
      lastFetchedEpoch: -1,
      partitionMaxBytes: bytesMax,
    })
  }
  const write = () =>
    fetchV13.createRequest(
      waitMs,
      1,
      FETCH_BYTES_MAX,
      0,
      NO_SESSION.id,
      NO_SESSION.epoch,
      [...topics.values()],
      [],
      '',
    )
  connection.send(
    FETCH_API,
    FETCH_VERSION,
    write,
    (_id, _api, _version, reader) => parse(reader),
    true,
    true,
    done,
  )
}

function parse(reader: Reader): FetchAnswers {
  reader.readInt32() // throttle time
  const code = reader.readInt16()
  reader.readInt32() // session
  const parts: FetchAnswer[] = []
  reader.readArray((r) => {
    const topicId = r.readUUID()
    r.readArray((p) => {
      const partition = p.readInt32()
      const partitionCode = p.readInt16()
      p.skip(8 * 3) // high watermark, last stable offset, log start
      p.readNullableArray((aborted) => aborted.skip(16))
      p.skip(4) // preferred replica
      parts.push({ topicId, partition, code: partitionCode, records: p.readBytes() })
    })
  })
  return { code, parts }
}
