/**
 * The proof by uuid. In: what was sent and acknowledged, and every record of the raw topics. Out: what is wrong, each
 * kind by name; nothing when every acknowledged event is there, the first copies of each distinct id stand in the order
 * in which they were sent, each in the lane and partition of its key, and nothing is there that was not sent.
 */
import {
  decodeRawHeader,
  type PartitionKey,
  partitionOf,
  RAW_TOPICS,
  TOPICS,
} from '../../../src/event/index.ts'
import type { Log } from '../../../src/log/index.ts'
import type { SentEvent } from './ledger.ts'

/** A raw record, as far as the proof looks at it. */
export type Arrived = {
  topic: string
  partition: number
  uuid: string
  distinctId: string
  sequence: unknown
}

export type Places = { token: string; partitions: number }

const NAMED_MAX = 5

/** Looks at each record once, in the order of its partition. */
export class Proof {
  private readonly seen = new Set<string>()
  /** Of the first copies; by lane and distinct id. */
  private readonly last = new Map<string, number>()
  private readonly wrong = new Map<string, string[]>()
  records = 0

  constructor(
    private readonly sent: ReadonlyMap<string, SentEvent>,
    private readonly places: Places,
  ) {}

  /** Records that stand behind an earlier one with the same uuid. */
  get copies(): number {
    return this.records - this.seen.size
  }

  look({ topic, partition, uuid, distinctId, sequence }: Arrived): void {
    this.records++
    const event = this.sent.get(uuid)
    if (event === undefined || event.distinctId !== distinctId || event.sequence !== sequence) {
      this.note('stored but never sent so', uuid)
      return
    }
    if (topic !== (event.historical ? TOPICS.rawHistorical : TOPICS.raw)) this.note('in the wrong lane', uuid)
    if (partition !== this.partitionFor(event, uuid)) this.note('in the wrong partition', uuid)
    if (this.seen.has(uuid)) return
    this.seen.add(uuid)
    if (event.personless) return
    const key = `${topic} ${distinctId}`
    const before = this.last.get(key) ?? -1
    if (event.sequence <= before)
      this.note('I3: out of order', `${uuid} (${distinctId}: ${event.sequence} behind ${before})`)
    this.last.set(key, Math.max(before, event.sequence))
  }

  /** All that is wrong, one sentence each. */
  findings(): string[] {
    const missing = [...this.sent].filter(([uuid, event]) => event.acked && !this.seen.has(uuid))
    const wrong = new Map(this.wrong)
    if (missing.length > 0)
      wrong.set(
        'I1: acknowledged but not in the log',
        missing.map(([uuid, { distinctId, sequence }]) => `${uuid} (${distinctId}: ${sequence})`),
      )
    return [...wrong].map(
      ([what, which]) => `${what}: ${which.length}, such as ${which.slice(0, NAMED_MAX).join(', ')}`,
    )
  }

  private partitionFor({ personless, distinctId }: SentEvent, uuid: string): number {
    const { token, partitions } = this.places
    const key: PartitionKey = personless
      ? { kind: 'personless', token, uuid }
      : { kind: 'distinctId', token, distinctId }
    return partitionOf(key, partitions)
  }

  private note(what: string, which: string): void {
    const list = this.wrong.get(what)
    if (list) list.push(which)
    else this.wrong.set(what, [which])
  }
}

/** Shows a proof what has come into the raw topics since it was asked last. */
export class RawTopics {
  private readonly reached = new Map<string, number>()

  constructor(
    private readonly log: Log,
    private readonly partitions: number,
  ) {}

  async show(proof: Proof): Promise<void> {
    for (const topic of RAW_TOPICS)
      for (let partition = 0; partition < this.partitions; partition++) {
        const place = `${topic}/${partition}`
        const { start, end } = await this.log.bounds(topic, partition)
        const from = this.reached.get(place) ?? start
        for await (const records of this.log.read(topic, partition, from, end))
          for (const { header, value } of records) {
            const { uuid, distinctId } = decodeRawHeader(header)
            const { properties } = JSON.parse(Buffer.from(value).toString()) as {
              properties?: { sequence?: unknown }
            }
            proof.look({ topic, partition, uuid, distinctId, sequence: properties?.sequence })
          }
        this.reached.set(place, end)
      }
  }
}
