/**
 * The partition numbers that this process loads, for topics that have equally many partitions. In: assignments of
 * one consumer group. Out: an input reader per topic and owned number. Topics with one writer are one group, those
 * with two writers another, since they have twice the partitions.
 *
 * One number: free ──assigned──▶ loading ──gap──▶ halted (until it is assigned anew)
 *              ▲                    └───┬───────────┘
 *              └── revoked (the running insert may end first), lost ┘
 */
import type { HeadraceError, RowTopic } from '../event/index.ts'
import type { Log, Member, Position } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { InputReader } from './input-reader.ts'
import type { Lane } from './lane.ts'
import { loadMetrics } from './metrics.ts'

/** A number that goes to another member waits so long for its running insert; the heir waits for its lock anyway. */
export const REVOKE_WAIT_MS = 5_000

export class Membership {
  private readonly numbers = new Map<number, InputReader[]>()
  private readonly halted = new Map<number, HeadraceError>()
  private member: Member | undefined

  constructor(
    private readonly group: string,
    readonly topics: readonly RowTopic[],
    private readonly lanes: ReadonlyMap<RowTopic, Lane>,
    private readonly logIds: ReadonlyMap<string, string>,
    private readonly logger: Logger,
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
    const readers = this.topics.map(
      (topic) =>
        new InputReader(this.lanes.get(topic)!, this.logIds.get(topic)!, topic, number, (error) =>
          this.halt(number, error),
        ),
    )
    this.numbers.set(number, readers)
    loadMetrics.gap.set(this.label(number), 0)
    for (const reader of readers) reader.start()
  }

  /** Stops a number where something is missing or wrong; what is before it is still loaded. */
  private halt(number: number, error: HeadraceError): void {
    const readers = this.numbers.get(number)
    if (!readers || this.halted.has(number)) return
    this.halted.set(number, error)
    for (const reader of readers) reader.halt()
    loadMetrics.gap.set(this.label(number), 1)
    this.logger.error(
      { group: this.group, partition: number, code: error.code, docs: 'docs/runbooks/load.md#gap' },
      `load of partition ${number} stopped: ${error.message}`,
    )
  }

  private async revoked(number: number): Promise<void> {
    const readers = this.numbers.get(number) ?? []
    for (const reader of readers) reader.halt()
    await Promise.all(readers.map((reader) => reader.lane.finished(reader, REVOKE_WAIT_MS)))
    await this.give(number)
  }

  /** Forgets the number at once; what was cut is settled by whoever comes next. */
  private async give(number: number): Promise<void> {
    const readers = this.numbers.get(number) ?? []
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
    await this.member?.leave()
    await Promise.all([...this.numbers.keys()].map((number) => this.give(number)))
  }
}
