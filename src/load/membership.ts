/**
 * The partition numbers that this process loads, for topics that have equally many partitions. In: assignments of
 * one consumer group. Out: an input reader per topic and owned number. Topics with one writer are one group, those
 * with two writers another, since they have twice the partitions.
 *
 * One number: free ──assigned──▶ loading ──gap──▶ halted ──after HALTED_MS──▶ looking ──all inputs go on──▶ loading
 *              ▲                    │                 ▲ └───────────────┐          ├─ gap ─▶ halted
 *              └── revoked (the running insert may end first), lost ◀───┴──────────┘
 */
import type { HeadraceError, RowTopic } from '../event/index.ts'
import type { Log, Member, Position } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { pause } from '../platform/index.ts'
import { InputReader } from './input-reader.ts'
import type { Lane } from './lane.ts'
import { loadMetrics } from './metrics.ts'

/** A number that goes to another member waits so long for its running insert; the heir waits for its lock anyway. */
export const REVOKE_WAIT_MS = 5_000
/** A halted number is looked at again after this long, so that a repair needs no restart. */
const HALTED_MS = 10_000

/** One try to load a number, from its fences on. */
type Try = {
  readers: InputReader[]
  halted: boolean
  /** What its next look would show says nothing of what stopped it: it stands until it is assigned anew. */
  final: boolean
}

export class Membership {
  private readonly numbers = new Map<number, Try>()
  /** Why a number stands still, until all its inputs go on. */
  private readonly halted = new Map<number, HeadraceError>()
  private readonly leaving = new AbortController()
  private member: Member | undefined

  constructor(
    private readonly group: string,
    readonly topics: readonly RowTopic[],
    private readonly lanes: ReadonlyMap<RowTopic, Lane>,
    private readonly logIds: Map<string, string>,
    private readonly logger: Logger,
    /** Called when a number became ours, so that retention hears at once what it still needs. */
    private readonly changed: () => void,
  ) {}

  async join(log: Log): Promise<void> {
    this.member = await log.join({
      group: this.group,
      topics: [...this.topics],
      assigned: (number) => this.assigned(number),
      revoked: (number) => this.revoked(number),
      lost: (number) => {
        void this.give(number)
      },
    })
  }

  private assigned(number: number): void {
    if (this.numbers.has(number)) return
    loadMetrics.gap.set(this.label(number), 0)
    this.begin(number)
    this.changed()
  }

  private begin(number: number): void {
    const current: Try = { readers: [], halted: false, final: false }
    let going = 0
    current.readers = this.topics.map(
      (topic) =>
        new InputReader(this.lanes.get(topic)!, this.logIds, topic, number, {
          stopped: (error) => this.halt(number, current, error),
          goesOn: () => {
            going++
            if (going === this.topics.length) this.goesOn(number, current)
          },
        }),
    )
    this.numbers.set(number, current)
    for (const reader of current.readers) reader.start()
  }

  /** Stops a number where something is missing or wrong; what is before it is still loaded. */
  private halt(number: number, current: Try, error: HeadraceError): void {
    if (this.numbers.get(number) !== current) return
    // The intent is in repair and its rows are behind the fence: another look would go on as if nothing were wrong.
    if (error.code === 'HR_LOAD_BYTES_DIFFER') current.final = true
    if (current.halted) return
    current.halted = true
    this.halted.set(number, error)
    for (const reader of current.readers) reader.halt()
    loadMetrics.gap.set(this.label(number), 1)
    this.logger.error(
      { group: this.group, partition: number, code: error.code, docs: 'docs/runbooks/load.md#gap' },
      `load of partition ${number} stopped: ${error.message}`,
    )
    void this.lookAgain(number, current)
  }

  private async lookAgain(number: number, current: Try): Promise<void> {
    await pause(HALTED_MS, this.leaving.signal)
    // Its rows may be on their way: their fence is read only after they are settled.
    await Promise.all(current.readers.map((reader) => reader.lane.finished(reader, REVOKE_WAIT_MS)))
    if (this.leaving.signal.aborted || current.final || this.numbers.get(number) !== current) return
    for (const reader of current.readers) void reader.close()
    this.begin(number)
  }

  private goesOn(number: number, current: Try): void {
    if (current.halted || this.numbers.get(number) !== current || !this.halted.delete(number)) return
    loadMetrics.gap.set(this.label(number), 0)
    this.logger.info({ group: this.group, partition: number }, `load of partition ${number} goes on`)
  }

  private async revoked(number: number): Promise<void> {
    const readers = this.numbers.get(number)?.readers ?? []
    for (const reader of readers) reader.halt()
    await Promise.all(readers.map((reader) => reader.lane.finished(reader, REVOKE_WAIT_MS)))
    await this.give(number)
  }

  /** Forgets the number at once; what was cut is settled by whoever comes next. */
  private async give(number: number): Promise<void> {
    const readers = this.numbers.get(number)?.readers ?? []
    this.numbers.delete(number)
    this.halted.delete(number)
    loadMetrics.gap.remove(this.label(number))
    for (const { topic, partition } of readers) loadMetrics.lag.remove({ topic, partition })
    await Promise.all(readers.map((reader) => reader.close()))
  }

  private label(number: number): { group: string; partition: number } {
    return { group: this.group, partition: number }
  }

  /** Undefined while every owned number is loaded, else one sentence. */
  notReady(): string | undefined {
    if (!this.member) return `load has not joined group ${this.group} yet`
    for (const [number, error] of this.halted) return `load of partition ${number} stopped: ${error.message}`
    return undefined
  }

  /** The (topic, partition) pairs that this member owns now. */
  owned(): { topic: RowTopic; partition: number }[] {
    return [...this.numbers.keys()].flatMap((partition) => this.topics.map((topic) => ({ topic, partition })))
  }

  /** How far the log may forget, and what lag displays show. A partition that just left us is not an error. */
  async commit(positions: Position[]): Promise<void> {
    if (positions.length > 0) await this.member?.commit(positions).catch(() => {})
  }

  async leave(): Promise<void> {
    this.leaving.abort()
    await this.member?.leave()
    await Promise.all([...this.numbers.keys()].map((number) => this.give(number)))
  }
}
