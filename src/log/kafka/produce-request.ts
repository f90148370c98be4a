/** One produce request (version 9): batches for partitions that one broker leads, acks all, no transaction. */
import { type Callback, type Connection, produceV9, Writer } from '@platformatic/kafka'

export type ProducePart = { topic: string; partition: number; batch: Buffer }
export type ProduceAnswer = { code: number; baseOffset: number; detail: string | undefined }

const PRODUCE_API = 0
const PRODUCE_VERSION = 9
const ACKS_ALL = -1

/** `timeoutMs`: how long the broker may wait for its replicas. */
export function sendProduce(
  connection: Connection,
  parts: ProducePart[],
  timeoutMs: number,
  done: Callback<produceV9.ProduceResponse>,
): void {
  const byTopic = new Map<string, ProducePart[]>()
  for (const part of parts) {
    const same = byTopic.get(part.topic)
    if (same) same.push(part)
    else byTopic.set(part.topic, [part])
  }
  const write = () =>
    Writer.create()
      .appendString(null)
      .appendInt16(ACKS_ALL)
      .appendInt32(timeoutMs)
      .appendArray([...byTopic], (w, [topic, ofTopic]) => {
        w.appendString(topic).appendArray(ofTopic, (w, part) => {
          w.appendInt32(part.partition).appendBytes(part.batch)
        })
      })
      .appendTaggedFields()
  connection.send(PRODUCE_API, PRODUCE_VERSION, write, produceV9.parseResponse, true, true, done)
}

/** What the broker said of each partition, by `topic/partition`. */
export function produceAnswers(response: produceV9.ProduceResponse): Map<string, ProduceAnswer> {
  const answers = new Map<string, ProduceAnswer>()
  for (const topic of response.responses)
    for (const partition of topic.partitionResponses)
      answers.set(`${topic.name}/${partition.index}`, {
        code: partition.errorCode,
        baseOffset: Number(partition.baseOffset),
        detail: partition.errorMessage ?? undefined,
      })
  return answers
}
