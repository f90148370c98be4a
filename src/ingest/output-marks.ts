/**
 * How far the row topics went when a batch was applied: kept with its receipt, so that whoever opens the partition
 * later knows where in those topics to look for what was produced since. Each mark is a lower bound: what is applied
 * after a batch is produced behind the marks of that batch. Cost: one pass over the positions of each send.
 */
import { ROW_TOPICS, type RowTopic } from '../event/index.ts'
import type { Log, Position } from '../log/index.ts'

/** By log id of the row topic: the offset that its next record of this partition number gets, or a lower one. */
export type Marks = Record<string, number>

export class OutputMarks {
  private constructor(
    private readonly logIds: ReadonlyMap<string, string>,
    private readonly ends: Map<string, number>,
  ) {}

  /** As the topics are now. */
  static async open(log: Log, partition: number): Promise<OutputMarks> {
    const logIds = new Map<string, string>()
    const ends = new Map<string, number>()
    for (const { name, logId } of await log.describe([...ROW_TOPICS])) {
      logIds.set(name, logId)
      ends.set(name, (await log.bounds(name, partition)).end)
    }
    return new OutputMarks(logIds, ends)
  }

  /** Takes up what a send was acknowledged with. */
  note(positions: readonly Position[]): void {
    for (const { topic, offset } of positions) {
      if (offset >= (this.ends.get(topic) ?? 0)) this.ends.set(topic, offset + 1)
    }
  }

  /** As the receipt keeps them. */
  marks(): Marks {
    return Object.fromEntries([...this.ends].map(([topic, end]) => [this.logIds.get(topic)!, end]))
  }
}

/** Records [from, to) of one partition of a row topic. */
export type Stretch = {
  topic: RowTopic
  partition: number
  from: number
  to: number
  /** Where it should begin: below `from` when retention has removed the beginning. */
  wanted: number
}
