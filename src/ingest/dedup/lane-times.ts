/**
 * How far the log's time has come over both lanes of a partition number. They share one index, and one may be days
 * behind: a claim may go only when no lane can ask for it any more.
 *
 * In: the records as they are taken. Out: when all that is taken from now on was appended, at the earliest. A lane that
 * is read to its end goes with the other: what comes on it is appended after what was taken by then. Each minute the
 * log is asked for the end of the lane that gives nothing.
 */
import type { Log, StoredRecord } from '../../log/index.ts'
import type { LaneId } from '../fence.ts'

const ASK_MS = 60_000
/** Records behind a fence, of which the oldest tells: one with a clock that leaps ahead must not. */
const LOOKED_AT = 100

type Lane = { id: LaneId; nextOffset: number; ms: number }

/**
 * When all that will be taken from the fences on was appended, at the earliest, epoch ms. Before the first batch, when
 * the records behind the fences alone can tell; of lanes that are read to their ends it is now.
 */
export async function nextAppended(
  log: Pick<Log, 'bounds' | 'read'>,
  fences: readonly { id: LaneId; position: { nextOffset: number } }[],
  now: () => number = Date.now,
): Promise<number> {
  let least = now()
  for (const { id, position } of fences) {
    const { end } = await log.bounds(id.topic, id.partition)
    const to = Math.min(end, position.nextOffset + LOOKED_AT)
    for await (const records of log.read(id.topic, id.partition, position.nextOffset, to))
      for (const { appendedMs } of records) least = Math.min(least, appendedMs)
  }
  return least
}

export class LaneTimes {
  private readonly lanes: Lane[]
  private askAt = 0

  constructor(
    private readonly log: Pick<Log, 'bounds'>,
    lanes: readonly { id: LaneId; nextOffset: number }[],
    /** ms, monotonic. */
    private readonly now: () => number = () => performance.now(),
  ) {
    // Nothing is known of a lane before its first records: until then nothing goes.
    this.lanes = lanes.map(({ id, nextOffset }) => ({ id, nextOffset, ms: 0 }))
  }

  /** `records` are taken from the lane of `logId`. Gives a time of the log, epoch ms; 0 while it is not known. */
  async after(logId: string, records: readonly StoredRecord[]): Promise<number> {
    const lane = this.lanes.find(({ id }) => id.logId === logId)!
    // The oldest: one record with a clock that leaps ahead must not move the others' time.
    lane.ms = records.reduce((least, { appendedMs }) => Math.min(least, appendedMs), Infinity)
    lane.nextOffset = records.at(-1)!.offset + 1
    if (this.now() >= this.askAt) {
      this.askAt = this.now() + ASK_MS
      for (const other of this.lanes) if (other !== lane) await this.bringAlong(other, lane.ms)
    }
    return Math.min(...this.lanes.map(({ ms }) => ms))
  }

  private async bringAlong(lane: Lane, ms: number): Promise<void> {
    const { end } = await this.log.bounds(lane.id.topic, lane.id.partition)
    if (end === lane.nextOffset) lane.ms = ms
  }
}
