/**
 * Sends records so that what is acknowledged is in the log, once and in order.
 *
 * In: batches of records for any partitions. Out: their positions, after all in-sync replicas have them.
 * How: per leading broker one request on its way, with at most one batch per partition in it; what arrives meanwhile
 * goes into the next one. A batch that failed is sent again with the same bytes and sequence number until its
 * deadline; then its connection is destroyed and the lane retired (see send-queue.ts). Nothing else retries.
 *
 * ```
 * send ─▶ admitted (topic known, records small enough) ─▶ queued in lanes ─▶ on its way ─▶ stored | deadline | refused
 * ```
 * Bounds: `queueBytesMax` per producer; requests of at most 8 MiB; a deadline on everything.
 */
import { initProducerIdV4 } from '@platformatic/kafka'
import { counter, gauge } from '../../observe/index.ts'
import { logError } from '../errors.ts'
import type { Position, Producer, ProducerOptions, SendRecord } from '../log.ts'
import { Admission } from './admission.ts'
import { backoffMs, pause } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { CODE, codeName, isHeadraceError, isTransient } from './faults.ts'
import type { Link } from './link.ts'
import { PRODUCE_REQUEST_BYTES_MAX } from './options.ts'
import { type ProduceAnswer, ProduceRequest, produceAnswers } from './produce-request.ts'
import { BATCH_HEAD_BYTES, RECORD_OVERHEAD_BYTES } from './record-batch.ts'
import { type Batch, Lane, Send } from './send-queue.ts'
import type { TopicLimits } from './topic-limits.ts'

const SWEEP_MS = 50

const queuedBytes = gauge(
  'headrace_log_producer_queued_bytes',
  'Bytes that wait in a producer or are on their way.',
  ['producer'],
)
const retirements = counter(
  'headrace_log_producer_retired_total',
  'Batches given up (deadline or refusal); the partition was fenced before the next one.',
  ['producer'],
)

/** The connection to one broker, the memory of its requests, and what is on its way there. */
type Wire = { link: Link; request: ProduceRequest; batches: Batch[] | undefined }

export class KafkaProducer implements Producer {
  /** Per topic, by partition. */
  private readonly lanes = new Map<string, Lane[]>()
  /** Lanes with work, in the order in which they get their turn. */
  private readonly busy = new Set<Lane>()
  private readonly wires = new Map<number, Wire>()
  private readonly admission: Admission
  private readonly open = new Set<Send>()
  private bytes = 0
  private producerId: bigint | undefined
  /** Lanes that have used the present producer id: they may not take it again. */
  private readonly spent = new Set<string>()
  private identifying = false
  private locating = false
  private relearning = false
  private pumping = false
  private closed = false
  private abandoned = false
  private sweeper: ReturnType<typeof setInterval> | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly limits: TopicLimits,
    private readonly options: ProducerOptions,
    private readonly onClose: (producer: KafkaProducer) => void,
  ) {
    this.admission = new Admission(limits, (send) => this.enqueue(send), cluster.signal)
  }

  send(records: SendRecord[]): Promise<Position[]> {
    if (this.closed)
      return Promise.reject(
        logError('HR_LOG_CLOSED', `producer ${this.options.name} was used after it was closed`),
      )
    if (records.length === 0) return Promise.resolve([])
    const send = new Send(records, performance.now() + this.options.deadlineMs)
    const max = this.cluster.settings.queueBytesMax
    if (this.bytes > 0 && this.bytes + send.bytes > max)
      return Promise.reject(
        logError(
          'HR_LOG_UNAVAILABLE',
          `producer ${this.options.name} has ${this.bytes} bytes waiting for Kafka, at most ${max} are allowed`,
        ),
      )
    const tooLarge = this.admission.refusal(records)
    if (tooLarge) return Promise.reject(tooLarge)
    this.open.add(send)
    this.count(send.bytes)
    const settle = () => {
      this.open.delete(send)
      this.count(-send.bytes)
    }
    send.done.then(settle, settle)
    this.sweeper ??= setInterval(() => this.sweep(), SWEEP_MS)
    this.admission.enter(send)
    return send.done
  }

  private count(bytes: number): void {
    this.bytes += bytes
    queuedBytes.set({ producer: this.options.name }, this.bytes)
  }

  private enqueue(send: Send): void {
    const { records } = send
    let last: string | undefined
    let ofTopic: Lane[] = []
    for (let index = 0; index < records.length; index++) {
      const { topic, partition } = records[index]!
      if (topic !== last) {
        last = topic
        ofTopic = this.lanesOf(topic)
      }
      let lane = ofTopic[partition]
      if (!lane) {
        lane = new Lane(topic, partition)
        ofTopic[partition] = lane
      }
      // One with work has its turn already.
      if (lane.idle) this.busy.add(lane)
      lane.push(send, index)
    }
    this.pumpSoon()
  }

  private lanesOf(topic: string): Lane[] {
    let lanes = this.lanes.get(topic)
    if (!lanes) {
      lanes = []
      this.lanes.set(topic, lanes)
    }
    return lanes
  }

  /** In a microtask, so that all sends of one turn of the event loop go together. */
  private pumpSoon(): void {
    if (this.pumping) return
    this.pumping = true
    queueMicrotask(() => {
      this.pumping = false
      this.pump()
    })
  }

  /** Fills each idle wire with the batches that are ready for its broker. */
  private pump(): void {
    if (this.abandoned) return
    const nowMs = performance.now()
    const requests = new Map<Wire, Batch[]>()
    const sizes = new Map<Wire, number>()
    let lost = false
    const forgotten = new Set<string>()
    for (const lane of this.busy) {
      if (lane.idle) {
        this.busy.delete(lane)
        continue
      }
      if (lane.retryAtMs > nowMs) continue
      if (lane.producerId === undefined && !this.identify(lane)) continue
      const leader = this.cluster.leaderOf(lane.topic, lane.partition)
      if (leader === undefined) {
        lost = true
        continue
      }
      const wire = this.wireTo(leader)
      const size = sizes.get(wire) ?? 0
      if (wire.batches !== undefined || size >= PRODUCE_REQUEST_BYTES_MAX || this.onWire(lane)) continue
      const limit = this.limits.get(lane.topic)
      if (limit === undefined) {
        forgotten.add(lane.topic)
        continue
      }
      const batch = lane.take(
        limit.recordBytesMax + RECORD_OVERHEAD_BYTES - BATCH_HEAD_BYTES,
        this.cluster.settings.compression,
        Date.now(),
      )
      if (!batch) {
        this.busy.delete(lane)
        continue
      }
      const batches = requests.get(wire)
      if (batches) batches.push(batch)
      else requests.set(wire, [batch])
      sizes.set(wire, size + batch.bytes)
    }
    if (lost) void this.locate()
    if (forgotten.size > 0) void this.relearn([...forgotten])
    for (const [wire, batches] of requests) {
      // Their turn comes again after all others'.
      for (const { lane } of batches) {
        this.busy.delete(lane)
        this.busy.add(lane)
      }
      void this.transmit(wire, batches)
    }
  }

  /** After a change of leader the batch may still be on its way to the old one. */
  private onWire(lane: Lane): boolean {
    if (!lane.batch) return false
    for (const wire of this.wires.values()) if (wire.batches?.includes(lane.batch)) return true
    return false
  }

  private wireTo(broker: number): Wire {
    let wire = this.wires.get(broker)
    const address = this.cluster.addressOf(broker)!
    if (wire && (wire.link.address.host !== address.host || wire.link.address.port !== address.port)) {
      if (wire.batches === undefined) {
        wire.link.destroy()
        wire = undefined
      }
    }
    if (!wire) {
      wire = {
        link: this.cluster.privateLink(broker),
        request: new ProduceRequest(this.cluster.settings.clientId),
        batches: undefined,
      }
      this.wires.set(broker, wire)
    }
    return wire
  }

  private async transmit(wire: Wire, batches: Batch[]): Promise<void> {
    wire.batches = batches
    const { requestTimeoutMs } = this.cluster.settings
    let deadlineMs = Number.POSITIVE_INFINITY
    for (const batch of batches) deadlineMs = Math.min(deadlineMs, batch.deadlineMs)
    const leftMs = Math.max(1, Math.min(requestTimeoutMs, Math.ceil(deadlineMs - performance.now())))
    const frame = wire.request.write(batches, leftMs)
    let answers: Map<string, ProduceAnswer> | undefined
    let failure: unknown
    try {
      answers = await wire.link.exchange(frame, produceAnswers, requestTimeoutMs)
    } catch (error) {
      failure = error
    }
    wire.batches = undefined
    let stale = answers === undefined
    for (const batch of batches) {
      if (batch.lane.batch !== batch) continue // given up meanwhile
      const answer = answers?.get(batch.lane.key)
      if (answer === undefined) this.again(batch, failure)
      else if (answer.code === CODE.NONE && answer.baseOffset >= 0) batch.lane.stored(answer.baseOffset)
      else if (isTransient(answer.code)) {
        stale = true
        this.again(batch, logError('HR_LOG_UNAVAILABLE', `Kafka answered ${codeName(answer.code)}`))
      } else this.giveUp(batch, this.refusedBy(batch, answer.code, answer.detail))
    }
    for (let i = 0; i < batches.length; i++)
      if (batches[i]!.lane.batch === batches[i]) batches[i]!.keep(() => wire.request.copyOf(i))
    // Without an answer the socket may still look at it.
    if (answers === undefined) wire.request.forget()
    if (stale) void this.locate()
    this.pump()
  }

  private refusedBy({ lane }: Batch, code: number, detail: string | undefined) {
    if (code === CODE.MESSAGE_TOO_LARGE || code === CODE.RECORD_LIST_TOO_LARGE) this.limits.forget(lane.topic)
    return logError(
      'HR_LOG_UNAVAILABLE',
      `Kafka refused records for ${lane.key}: ${codeName(code)}${detail ? `, ${detail}` : ''}`,
    )
  }

  /** The same bytes once more, a little later. */
  private again(batch: Batch, failure: unknown): void {
    batch.lane.retryAtMs = performance.now() + backoffMs(batch.failures++)
    if (!isHeadraceError(failure))
      this.giveUp(batch, logError('HR_LOG_UNAVAILABLE', String(failure), failure))
  }

  private giveUp(batch: Batch, error: Error): void {
    retirements.inc({ producer: this.options.name })
    batch.lane.retire(error)
    this.busy.add(batch.lane)
  }

  /** Gives what is past its deadline up, and wakes lanes whose pause is over. */
  private sweep(): void {
    if (this.open.size === 0 && this.busy.size === 0) {
      clearInterval(this.sweeper)
      this.sweeper = undefined
      for (const wire of this.wires.values()) wire.request.forget()
      return
    }
    const nowMs = performance.now()
    for (const wire of this.wires.values()) {
      // The socket goes first: nothing of what is given up below stays where it could still be written.
      if (wire.batches?.some((batch) => batch.deadlineMs <= nowMs)) wire.link.reset()
    }
    for (const lane of this.busy) {
      if (lane.batch && lane.batch.deadlineMs <= nowMs)
        this.giveUp(lane.batch, this.tooLate(`${lane.key} was not acknowledged`))
    }
    let expired = false
    for (const send of this.open) {
      if (send.deadlineMs > nowMs) continue
      expired = true
      send.fail(this.tooLate('a send did not leave the queue'))
    }
    if (expired) for (const lane of this.busy) lane.prune()
    this.pump()
  }

  private tooLate(what: string) {
    return logError(
      'HR_LOG_DEADLINE',
      `${what} within ${this.options.deadlineMs} ms (producer ${this.options.name})`,
    )
  }

  /** True when the lane has a producer id now. */
  private identify(lane: Lane): boolean {
    if (this.producerId !== undefined && !this.spent.has(lane.key)) {
      lane.identify(this.producerId)
      this.spent.add(lane.key)
      return true
    }
    if (!this.identifying) {
      this.identifying = true
      void this.newProducerId().finally(() => {
        this.identifying = false
        if (!this.closed) this.pump()
      })
    }
    return false
  }

  private async newProducerId(): Promise<void> {
    try {
      this.producerId = await this.cluster.retrying('a producer id', [], async () => {
        const answer = await this.cluster.askAny<initProducerIdV4.InitProducerIdResponse>(
          (connection, done) =>
            // Not transactional, so the coordinator is any broker and the time-out is not looked at.
            initProducerIdV4.api(connection, null, 0, undefined, undefined, done),
        )
        return answer.errorCode === CODE.NONE ? { value: answer.producerId } : { code: answer.errorCode }
      })
      this.spent.clear()
    } catch (error) {
      // The sends keep their deadlines; the next sweep asks again.
      if (!isHeadraceError(error)) throw error
    }
  }

  /** Looks up limits that were forgotten while records waited; one at a time. */
  private async relearn(topics: string[]): Promise<void> {
    if (this.relearning || this.abandoned) return
    this.relearning = true
    try {
      await this.limits.load(topics)
    } catch (error) {
      // The sends keep their deadlines; the next sweep asks again.
      if (!isHeadraceError(error)) throw error
    } finally {
      this.relearning = false
    }
    this.pump()
  }

  /** Learns where the leaders are now; one at a time, and not in a tight loop. */
  private async locate(): Promise<void> {
    if (this.locating || this.closed) return
    this.locating = true
    try {
      const topics = new Set<string>()
      for (const lane of this.busy) topics.add(lane.topic)
      await this.cluster.refresh(topics)
      for (const topic of topics) if (this.cluster.isUnknown(topic)) this.limits.forget(topic)
    } catch (error) {
      if (!isHeadraceError(error)) throw error
    } finally {
      await pause(backoffMs(0), this.cluster.signal)
      this.locating = false
    }
    if (!this.closed) this.pump()
  }

  /** Waits for what is under way (it has deadlines), then closes the connections. */
  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.admission.close()
    await Promise.allSettled([...this.open].map((send) => send.done))
    this.abandon()
  }

  /** Closes at once; sends under way fail. */
  abandon(): void {
    this.closed = true
    this.abandoned = true
    this.admission.close()
    clearInterval(this.sweeper)
    this.sweeper = undefined
    for (const wire of this.wires.values()) wire.link.destroy()
    for (const send of this.open)
      send.fail(logError('HR_LOG_CLOSED', `producer ${this.options.name} was closed`))
    this.onClose(this)
  }
}
