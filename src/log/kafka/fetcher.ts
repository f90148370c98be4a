/**
 * Keeps the feeds of all readers of this log filled: per leading broker one loop that asks for all of that broker's
 * feeds with room in one request. A feed that is full is left out, which is the back-pressure. When a broker is lost or
 * a leader moves, the loop's feeds are placed anew, for ever, with backoff and jitter; a feed goes on at exactly its
 * position, so nothing is skipped or repeated.
 *
 * ```
 * opened ─▶ homeless ─▶ served by a loop ─▶ (broker lost, leader moved) ─▶ homeless …
 *                └─▶ failed: topic gone or made again, offset out of range, corrupt
 * ```
 * Two readers of one partition go to two loops (`rank`), since a request names a partition once; a range read has a
 * loop of its own, so that it need not wait for another's long poll.
 */
import { counter } from '../../observe/index.ts'
import { logError } from '../errors.ts'
import type { Admin } from './admin.ts'
import { backoffMs, pause } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { CODE, codeName, isHeadraceError, isTransient } from './faults.ts'
import type { Feed } from './feed.ts'
import { type FetchAnswer, type FetchAnswers, sendFetch } from './fetch-request.ts'
import type { Link } from './link.ts'
import { FETCH_PARTITION_BYTES_MAX, FETCH_WAIT_BUSY_MS, FETCH_WAIT_MS } from './options.ts'
import { decodeBatches } from './record-batch.ts'

/** This long, "unknown topic" may come from a broker that lags behind. */
const UNKNOWN_MS_MAX = 10_000
/** Answers in a row with a wrong CRC until the disk is blamed, not the wire. */
const CORRUPT_MAX = 3

const placements = counter(
  'headrace_log_reader_placed_total',
  'Times a reader was (re)attached to the broker that leads its partition.',
  ['topic'],
)

class Loop {
  readonly feeds = new Set<Feed>()
  wake: (() => void) | undefined

  constructor(
    readonly key: string,
    readonly link: Link,
  ) {}
}

export class Fetcher {
  private readonly loops = new Map<string, Loop>()
  private readonly homeless = new Map<Feed, number>()
  private placing = false
  private closed = false
  private serial = 0

  constructor(
    private readonly cluster: Cluster,
    private readonly admin: Admin,
  ) {}

  add(feed: Feed): void {
    feed.lostMs = performance.now()
    this.homeless.set(feed, 0)
    void this.place()
  }

  /** A feed has room again, or is closed. */
  poke(): void {
    for (const loop of this.loops.values()) loop.wake?.()
  }

  private async place(): Promise<void> {
    if (this.placing) return
    this.placing = true
    let failures = 0
    while (this.homeless.size > 0 && !this.closed) {
      const pending = [...this.homeless.keys()]
      const topics = new Set(pending.map((feed) => feed.topic))
      try {
        // A feed that was thrown out knows that the old answer is of no use.
        if (
          pending.some(
            (feed) => feed.failures > 0 || this.cluster.leaderOf(feed.topic, feed.partition) === undefined,
          )
        )
          await this.cluster.refresh(topics)
      } catch (error) {
        if (!isHeadraceError(error)) throw error
      }
      for (const feed of pending) this.placeOne(feed)
      if (this.homeless.size === 0) break
      await pause(backoffMs(failures++), this.cluster.signal)
    }
    this.placing = false
  }

  private placeOne(feed: Feed): void {
    if (feed.ended) {
      this.homeless.delete(feed)
      return
    }
    const nowMs = performance.now()
    const places = this.cluster.places(feed.topic)
    if (!places) {
      if (!this.cluster.isUnknown(feed.topic)) feed.unknownMs = undefined
      else {
        feed.unknownMs ??= nowMs
        if (nowMs - feed.unknownMs > UNKNOWN_MS_MAX)
          feed.fail(logError('HR_LOG_NO_TOPIC', `topic ${feed.topic} does not exist in Kafka`))
      }
      this.complain(feed, nowMs)
      return
    }
    feed.unknownMs = undefined
    if (feed.topicId !== undefined && feed.topicId !== places.topicId) {
      feed.fail(
        logError(
          'HR_LOG_OUT_OF_RANGE',
          `topic ${feed.topic} was deleted and made again: it is log ${places.topicId} now, the reader of partition ${feed.partition} at ${feed.position} belongs to ${feed.topicId}`,
        ),
      )
      return
    }
    if (feed.partition >= places.partitions.length) {
      feed.fail(
        logError(
          'HR_LOG_WRONG_TOPIC',
          `topic ${feed.topic} has ${places.partitions.length} partitions, a reader wants ${feed.partition}`,
        ),
      )
      return
    }
    const leader = this.cluster.leaderOf(feed.topic, feed.partition)
    if (leader === undefined || (this.homeless.get(feed) ?? 0) > nowMs) {
      this.complain(feed, nowMs)
      return
    }
    feed.topicId = places.topicId
    this.homeless.delete(feed)
    this.attach(feed, leader)
  }

  private complain(feed: Feed, nowMs: number): void {
    const { requestTimeoutMs } = this.cluster.settings
    if (feed.lostMs === undefined || nowMs - feed.lostMs < requestTimeoutMs) return
    feed.lostMs = nowMs
    feed.complain(
      logError('HR_LOG_UNAVAILABLE', `no Kafka broker has served ${feed.key} for ${requestTimeoutMs} ms`),
    )
  }

  private attach(feed: Feed, leader: number): void {
    placements.inc({ topic: feed.topic })
    const address = this.cluster.addressOf(leader)!
    const base = `${leader}@${address.host}:${address.port}`
    for (let rank = 0; ; rank++) {
      const key = feed.alone ? `${base} alone ${this.serial++}` : `${base} ${rank}`
      let loop = this.loops.get(key)
      if (loop && [...loop.feeds].some((other) => other.key === feed.key)) continue
      if (!loop) {
        loop = new Loop(key, this.cluster.privateLink(leader))
        this.loops.set(key, loop)
        loop.feeds.add(feed)
        void this.run(loop)
      } else {
        loop.feeds.add(feed)
        loop.wake?.()
      }
      return
    }
  }

  private async run(loop: Loop): Promise<void> {
    while (!this.closed) {
      for (const feed of loop.feeds) if (feed.ended) loop.feeds.delete(feed)
      if (loop.feeds.size === 0) break
      const hungry = [...loop.feeds].filter((feed) => feed.hasRoom)
      if (hungry.length === 0) {
        await new Promise<void>((wake) => {
          loop.wake = wake
        })
        loop.wake = undefined
        continue
      }
      const waitMs = hungry.length < loop.feeds.size ? FETCH_WAIT_BUSY_MS : FETCH_WAIT_MS
      let answers: FetchAnswers
      try {
        answers = await this.fetch(loop, hungry, waitMs)
      } catch (error) {
        if (!isHeadraceError(error)) {
          for (const feed of loop.feeds) feed.fail(error instanceof Error ? error : new Error(String(error)))
          break
        }
        for (const feed of loop.feeds) this.expel(loop, feed)
        break
      }
      if (answers.code !== CODE.NONE) {
        for (const feed of loop.feeds) this.expel(loop, feed)
        break
      }
      const parts = new Map(answers.parts.map((part) => [`${part.topicId}/${part.partition}`, part]))
      const shared = answers.parts.filter(({ records }) => records.length > 0).length > 1
      for (const feed of hungry) {
        const part = parts.get(`${feed.topicId}/${feed.partition}`)
        if (part && !feed.ended) this.serve(loop, feed, part, shared)
      }
    }
    loop.link.destroy()
    this.loops.delete(loop.key)
    if (this.homeless.size > 0) void this.place()
  }

  private fetch(loop: Loop, hungry: Feed[], waitMs: number): Promise<FetchAnswers> {
    const parts = hungry.map((feed) => ({
      topicId: feed.topicId!,
      partition: feed.partition,
      offset: feed.position,
      bytesMax: FETCH_PARTITION_BYTES_MAX,
    }))
    // Brokers fill an answer from the front: every partition must be in front once in a while.
    const turn = this.serial++ % parts.length
    const turned = [...parts.slice(turn), ...parts.slice(0, turn)]
    return loop.link.ask<FetchAnswers>((connection, done) => sendFetch(connection, turned, waitMs, done))
  }

  /** `shared`: the answer holds records of others, too. */
  private serve(loop: Loop, feed: Feed, part: FetchAnswer, shared: boolean): void {
    if (part.code === CODE.OFFSET_OUT_OF_RANGE) {
      loop.feeds.delete(feed)
      void this.judgeRange(feed)
      return
    }
    if (part.code !== CODE.NONE) {
      this.expel(loop, feed)
      if (!isTransient(part.code))
        feed.complain(
          logError('HR_LOG_UNAVAILABLE', `Kafka refused to serve ${feed.key}: ${codeName(part.code)}`),
        )
      return
    }
    feed.lostMs = undefined
    feed.failures = 0
    if (part.records.length === 0) return
    // A copy, since records are views: one that is kept for long would keep 16 MB of other partitions in memory.
    const own = shared ? Buffer.from(part.records) : part.records
    const { records, bytes, next, fault } = decodeBatches(own, feed.position)
    feed.push(records, bytes, next)
    if (!fault) {
      feed.corrupt = 0
      return
    }
    if (++feed.corrupt < CORRUPT_MAX) return
    feed.fail(
      logError(
        'HR_LOG_CORRUPT',
        `${feed.topic} partition ${feed.partition} cannot be read from offset ${fault.offset} on: ${fault.reason}`,
      ),
    )
  }

  /** Out of the loop; placed again after a pause. */
  private expel(loop: Loop, feed: Feed): void {
    loop.feeds.delete(feed)
    if (feed.ended) return
    feed.lostMs ??= performance.now()
    this.homeless.set(feed, performance.now() + backoffMs(feed.failures++))
    void this.place()
  }

  /** "Out of range" from a broker that is just taking over must not end a reader: the bounds decide. */
  private async judgeRange(feed: Feed): Promise<void> {
    let verdict: Error | undefined
    try {
      const { start, end } = await this.admin.bounds(feed.topic, feed.partition)
      if (feed.position < start || feed.position > end)
        verdict = logError(
          'HR_LOG_OUT_OF_RANGE',
          `offset ${feed.position} of ${feed.topic} partition ${feed.partition} is not in the log, which holds ${start} to ${end}`,
        )
    } catch (error) {
      if (!isHeadraceError(error)) verdict = error instanceof Error ? error : new Error(String(error))
      else if (error.class !== 'retriable') verdict = error
    }
    if (verdict) return feed.fail(verdict)
    feed.lostMs ??= performance.now()
    this.homeless.set(feed, performance.now() + backoffMs(feed.failures++))
    void this.place()
  }

  close(): void {
    this.closed = true
    for (const loop of this.loops.values()) {
      for (const feed of loop.feeds) feed.close()
      loop.link.destroy()
      loop.wake?.()
    }
    for (const feed of this.homeless.keys()) feed.close()
  }
}
