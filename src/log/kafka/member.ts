/**
 * One member of a group: which partition numbers are ours, kept true against rebalances, dead coordinators and our own
 * pauses.
 *
 * ```
 *          ┌──────────── rebalance, after letting go ───────────┐
 * start ─▶ joining ─▶ syncing ─▶ stable ── heartbeat says so ───┘
 *             ▲                    │
 *             └── forgotten by the group, or silent for a session: everything we had is `lost`
 * ```
 * What must hold:
 * - Numbers are kept while the group rebalances; only those that move are `revoked`, and we join again for others to
 *   get them only when their `revoked` has resolved (or `revokeTimeoutMs` is over).
 * - When we were silent for a session (paused, cut off), numbers are `lost` before anything else is asked: the group
 *   may have given them away. The clock is looked at on every beat, so a process that wakes up finds out at once.
 * - `commit` carries our generation: the coordinator refuses one that is over.
 */

import { isRetriable } from '../../event/index.ts'
import { counter } from '../../observe/index.ts'
import { logError } from '../errors.ts'
import type { Member, MemberOptions, Position } from '../log.ts'
import type { Admin } from './admin.ts'
import { backoffMs, pause } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { CODE, codeName, isHeadraceError, isTransient } from './faults.ts'
import {
  assignAll,
  commitOffsets,
  type GroupIdentity,
  heartbeat,
  joinGroup,
  leaveGroup,
  syncGroup,
} from './group-protocol.ts'
import { Link } from './link.ts'

/** How often we look at our own clock, and how often the coordinator hears from us. */
const BEAT_MS = 500
const NO_GENERATION = -1

const rebalances = counter('headrace_log_member_rebalances_total', 'Rounds of sharing out partitions.', [
  'group',
])
const losses = counter(
  'headrace_log_member_lost_total',
  'Partition numbers lost without being asked (we were paused or cut off).',
  ['group'],
)

/** The coordinator does not know us any more, or has moved on without us. */
const FORGOTTEN: ReadonlySet<number> = new Set([
  CODE.UNKNOWN_MEMBER_ID,
  CODE.ILLEGAL_GENERATION,
  CODE.FENCED_INSTANCE_ID,
])

export class KafkaMember implements Member {
  private numbers = new Set<number>()
  /** Being handed over: still ours to finish, not to be claimed again. */
  private readonly letting = new Map<number, { done: Promise<void> }>()
  private memberId = ''
  private generation = NO_GENERATION
  private link: Link | undefined
  private partitions = 0
  /** performance.now when we last asked something that the coordinator then answered well. */
  private heardMs = 0
  /** The same for our own clock: a gap means that we were paused. */
  private beatMs = performance.now()
  private joining = false
  private rejoin = true
  private started = false
  private leaving: Promise<void> | undefined
  private readonly stopped = new AbortController()
  private watch: ReturnType<typeof setInterval> | undefined
  private running: Promise<void> | undefined
  private ready: { resolve(): void; reject(error: Error): void } | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly admin: Admin,
    private readonly options: MemberOptions,
    private readonly onGone: (member: KafkaMember) => void,
  ) {}

  /** Resolves when the group has given us our share for the first time (it may be empty). */
  async start(): Promise<void> {
    try {
      this.partitions = await this.sharedPartitions()
    } catch (error) {
      this.onGone(this)
      throw error
    }
    const first = new Promise<void>((resolve, reject) => {
      this.ready = { resolve, reject }
    })
    this.watch = setInterval(() => this.beat(), BEAT_MS)
    this.running = this.run()
    await first
  }

  owned(): number[] {
    this.beat()
    return [...this.numbers].sort((a, b) => a - b)
  }

  async commit(positions: Position[]): Promise<void> {
    if (positions.length === 0) return
    const deadline = performance.now() + this.cluster.settings.requestTimeoutMs
    for (let failures = 0; ; failures++) {
      this.beat()
      const foreign = positions.find(({ partition }) => !this.numbers.has(partition))
      if (foreign || this.generation === NO_GENERATION)
        throw this.notOwner(foreign?.partition ?? positions[0]!.partition)
      let reason: string
      try {
        const identity = this.identity()
        const code = await commitOffsets(await this.coordinator(), identity, positions)
        if (code === CODE.NONE) return
        // A round that is under way, or that ended while we asked, has made our generation old and left us the number:
        // ask again with the new one. Otherwise the group has gone on without us.
        const overtaken =
          code === CODE.ILLEGAL_GENERATION && (this.joining || identity.generation !== this.generation)
        if (FORGOTTEN.has(code) && !overtaken) throw this.notOwner(positions[0]!.partition, codeName(code))
        if (code !== CODE.REBALANCE_IN_PROGRESS && !overtaken && !isTransient(code))
          throw logError(
            'HR_LOG_UNAVAILABLE',
            `Kafka refused a commit of group ${this.options.group}: ${codeName(code)}`,
          )
        if (code === CODE.NOT_COORDINATOR || code === CODE.COORDINATOR_NOT_AVAILABLE) this.forgetCoordinator()
        reason = codeName(code)
      } catch (error) {
        if (!isRetriable(error) || performance.now() > deadline) throw error
        reason = (error as Error).message
      }
      if (performance.now() > deadline)
        throw logError(
          'HR_LOG_UNAVAILABLE',
          `a commit of group ${this.options.group} was not taken: ${reason}`,
        )
      await pause(backoffMs(failures), this.stopped.signal)
    }
  }

  private notOwner(partition: number, detail?: string) {
    return logError(
      'HR_LOG_NOT_OWNER',
      `partition ${partition} of group ${this.options.group} is not ours${detail ? `: ${detail}` : ''}`,
    )
  }

  leave(): Promise<void> {
    this.leaving ??= this.leaveNow()
    return this.leaving
  }

  private async leaveNow(): Promise<void> {
    this.stopped.abort()
    // The heartbeat goes on while our owner finishes: the numbers must not be given away before.
    await this.letGo([...this.numbers])
    clearInterval(this.watch)
    const link = this.link
    if (link && this.memberId !== '') {
      try {
        // A fresh connection: behind a join that still waits, the request would wait too.
        const farewell = new Link(link.address, this.cluster.settings)
        await leaveGroup(farewell, this.identity(), 2_000).finally(() => farewell.destroy())
      } catch (error) {
        // The group notices by itself after the session time-out.
        if (!isHeadraceError(error)) throw error
      }
    }
    this.forgetCoordinator()
    this.ready?.reject(logError('HR_LOG_CLOSED', `the member of group ${this.options.group} has left`))
    await this.running
    this.onGone(this)
  }

  /** The topics' common number of partitions; both lanes of a number can only have one owner if they agree on it. */
  private async sharedPartitions(): Promise<number> {
    const { topics, group } = this.options
    return this.cluster.retrying(`the topics of group ${group}`, topics, async () => {
      await this.cluster.refresh(topics)
      const missing = topics.find((topic) => this.cluster.isUnknown(topic))
      if (missing)
        throw logError(
          'HR_LOG_NO_TOPIC',
          `topic ${missing} does not exist in Kafka; create it with headrace kafka apply`,
        )
      const counts = topics.map((topic) => this.cluster.places(topic)?.partitions.length ?? 0)
      if (counts.includes(0)) return { code: CODE.LEADER_NOT_AVAILABLE }
      if (new Set(counts).size > 1)
        throw logError(
          'HR_LOG_WRONG_TOPIC',
          `group ${group} needs topics with equally many partitions: ${topics.map((topic, i) => `${topic} has ${counts[i]}`).join(', ')}`,
        )
      return { value: counts[0]! }
    })
  }

  private identity(): GroupIdentity {
    return { group: this.options.group, memberId: this.memberId, generation: this.generation }
  }

  private async coordinator(): Promise<Link> {
    if (this.link) return this.link
    const { host, port } = await this.admin.coordinator(this.options.group)
    this.link ??= new Link({ host, port }, this.cluster.settings)
    return this.link
  }

  private forgetCoordinator(): void {
    this.link?.destroy()
    this.link = undefined
  }

  /** Looks at the clock: a gap of a session in our own beat, or in the coordinator's answers, costs us everything. */
  private beat(): void {
    const nowMs = performance.now()
    const { sessionTimeoutMs } = this.cluster.settings
    const paused = nowMs - this.beatMs > sessionTimeoutMs
    this.beatMs = nowMs
    // While we wait in a join the coordinator keeps us without heartbeats; only our own pause counts then.
    const silent =
      !this.joining && this.generation !== NO_GENERATION && nowMs - this.heardMs > sessionTimeoutMs
    if (paused || silent) this.lose()
  }

  private lose(): void {
    const had = [...this.numbers]
    this.numbers = new Set()
    this.letting.clear()
    this.generation = NO_GENERATION
    this.rejoin = true
    for (const number of had) {
      losses.inc({ group: this.options.group })
      this.options.lost(number)
    }
  }

  /** Hands numbers over: each stays ours until its owner has finished or its time is up. */
  private async letGo(numbers: number[]): Promise<void> {
    const { revokeTimeoutMs } = this.cluster.settings
    await Promise.all(
      numbers.map((number) => {
        const known = this.letting.get(number)
        if (known) return known.done
        const handover = { done: Promise.resolve() }
        this.letting.set(number, handover)
        handover.done = this.handOver(number, handover, revokeTimeoutMs)
        return handover.done
      }),
    )
  }

  private async handOver(number: number, handover: object, timeoutMs: number): Promise<void> {
    let overdue = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const limit = new Promise<void>((done) => {
      timer = setTimeout(() => {
        overdue = true
        done()
      }, timeoutMs)
    })
    await Promise.race([this.options.revoked(number), limit])
    clearTimeout(timer)
    // Lost meanwhile, and perhaps assigned anew: not ours to close any more.
    if (this.letting.get(number) !== handover) return
    this.letting.delete(number)
    this.numbers.delete(number)
    if (overdue) {
      losses.inc({ group: this.options.group })
      this.options.lost(number)
    }
  }

  private async run(): Promise<void> {
    for (let failures = 0; !this.over(); ) {
      try {
        if (this.rejoin && !this.leaving) {
          await this.rebalance()
          failures = 0
        } else await this.heartbeat()
      } catch (error) {
        if (!isRetriable(error)) {
          this.lose()
          if (this.started && !this.cluster.signal.aborted) throw error
          this.ready?.reject(error instanceof Error ? error : new Error(String(error)))
          return
        }
        this.forgetCoordinator()
        await pause(backoffMs(failures++))
        continue
      }
      // Not cut short by leaving: until everything is handed over, the group must hear from us.
      if (!this.rejoin || this.leaving) await pause(BEAT_MS, this.cluster.signal)
    }
  }

  /** Nothing left to keep alive. */
  private over(): boolean {
    return this.cluster.signal.aborted || (this.leaving !== undefined && this.numbers.size === 0)
  }

  private async heartbeat(): Promise<void> {
    const { sessionTimeoutMs } = this.cluster.settings
    this.beat()
    if (this.generation === NO_GENERATION) return
    const askedMs = performance.now()
    const code = await heartbeat(await this.coordinator(), this.identity(), sessionTimeoutMs / 2)
    this.judge(code, askedMs)
    if (code === CODE.REBALANCE_IN_PROGRESS) this.rejoin = true
  }

  /** Takes note of an answer's code. Throws when it may pass with another coordinator or a little later. */
  private judge(code: number, askedMs: number): void {
    if (code === CODE.NONE || code === CODE.REBALANCE_IN_PROGRESS) {
      this.heardMs = Math.max(this.heardMs, askedMs)
      return
    }
    if (code === CODE.UNKNOWN_MEMBER_ID || code === CODE.FENCED_INSTANCE_ID) this.memberId = ''
    if (FORGOTTEN.has(code)) {
      this.lose()
      return
    }
    throw logError('HR_LOG_UNAVAILABLE', `group ${this.options.group}: Kafka answered ${codeName(code)}`)
  }

  /** One round: join, learn our share, let go of what moves, take what is new. */
  private async rebalance(): Promise<void> {
    const { sessionTimeoutMs, revokeTimeoutMs, requestTimeoutMs } = this.cluster.settings
    const link = await this.coordinator()
    this.rejoin = false
    this.joining = true
    let joined: Awaited<ReturnType<typeof joinGroup>>
    let synced: Awaited<ReturnType<typeof syncGroup>>
    let askedMs: number
    try {
      const wish = {
        topics: this.options.topics,
        owned: [...this.numbers],
        sessionTimeoutMs,
        rebalanceTimeoutMs: revokeTimeoutMs + sessionTimeoutMs,
      }
      joined = await joinGroup(link, this.identity(), wish)
      askedMs = performance.now()
      if (joined.code === CODE.MEMBER_ID_REQUIRED) {
        this.memberId = joined.memberId
        this.rejoin = true
        return
      }
      if (joined.code !== CODE.NONE) {
        this.rejoin = true
        this.judge(joined.code, askedMs)
        await pause(backoffMs(0), this.stopped.signal)
        return
      }
      this.memberId = joined.memberId
      // Lost while we waited: what we claimed in this round is not ours any more, so claim anew.
      if (wish.owned.some((number) => !this.numbers.has(number))) {
        this.rejoin = true
        return
      }
      this.generation = joined.generation
      this.heardMs = askedMs
      const assignments = joined.members
        ? assignAll(joined.members, this.options.topics, this.partitions)
        : []
      synced = await syncGroup(link, this.identity(), assignments, revokeTimeoutMs + requestTimeoutMs)
    } catch (error) {
      this.rejoin = true
      throw error
    } finally {
      this.joining = false
    }
    if (synced.code !== CODE.NONE) {
      this.rejoin = true
      this.judge(synced.code, askedMs)
      await pause(backoffMs(0), this.stopped.signal)
      return
    }
    if (this.generation !== joined.generation) return // lost meanwhile
    this.heardMs = askedMs
    rebalances.inc({ group: this.options.group })
    this.adopt(new Set(synced.numbers))
    this.started = true
    this.ready?.resolve()
  }

  private adopt(share: Set<number>): void {
    if (this.leaving) return
    const moving = [...this.numbers].filter((number) => !share.has(number))
    if (moving.length > 0)
      // In the background: the heartbeat goes on meanwhile, and so do the numbers that stay.
      void this.letGo(moving).then(() => {
        this.rejoin = true
      })
    for (const number of share) {
      if (this.numbers.has(number)) continue
      this.numbers.add(number)
      this.options.assigned(number)
    }
  }
}
