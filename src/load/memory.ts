/**
 * What rows take in the memory of a load process, over all its tables: those that wait, those of the insert that is on
 * its way, those of one that is settled. In: what each table holds. Out: how much it may read next. Must hold: together they
 * are at most `bytesMax`, plus 64 kB for each partition that is read when there is hardly room, plus what a loader that died
 * left behind: one insert per table. What the log's readers hold ahead comes on top, one MB for each partition that has
 * records to be read; what was read keeps nothing else in memory, since an answer of a broker that holds records of several
 * partitions is taken apart (`src/log/kafka/fetcher.ts`).
 *
 * Each table may always hold its share, so none is held up by the others. The rest is for who comes first, but not for a
 * table whose inserts wait: what ClickHouse does not take must not keep the others from being read. A table's rows wait
 * in at most half of what it may have, as the other half is on its way.
 *
 * What is let go of is still there until it is collected, and by itself that is late: buffers of rows live long enough to
 * count as old, and old ones are collected when the heap has doubled. So it is done here, each time that a third of the
 * whole was let go of: with 192 MB the process then peaks at some 460 MB and not at 750. Cost: below its share one comparison
 * per read; a collection per 64 MB of rows, which no run showed in its CPU time per row.
 */
import { Signal } from '../platform/index.ts'

/** What the objects of a row take beside its bytes. */
const ROW_OVERHEAD_BYTES = 300
/** Of the whole, for each table. */
const SHARE = 1 / 32
/** Of the whole: when so much was let go of, it is collected. */
const GARBAGE = 1 / 3

/** What one read of a partition may take, and takes at least when there is any room. */
export const READ_BYTES_MAX = 2 ** 20
const READ_BYTES_MIN = 2 ** 16

/** What one table holds. */
export type Holder = {
  /** Bytes, with the overhead of their rows. */
  held(): number
  /** How many partitions are read for it. */
  readonly readersCount: number
}

export class RowMemory {
  /** Something may have been let go of. */
  readonly freed = new Signal()
  private readonly holders: Holder[] = []
  private garbage = 0

  constructor(
    private readonly bytesMax: number,
    /** How many tables there will be. */
    private readonly tables: number,
  ) {}

  add(holder: Holder): void {
    this.holders.push(holder)
  }

  /** Rows that took `bytes` are not needed any more. */
  letGo(bytes: number): void {
    this.garbage += bytes
    if (this.garbage > this.bytesMax * GARBAGE) {
      this.garbage = 0
      Bun.gc(true)
    }
    this.freed.notify()
  }

  /**
   * How much one partition of the table may read next, 0 for not now. All of them may read at once, so each gets its part of
   * what is left. `waits`: inserts of this table are not taken now.
   */
  mayRead(holder: Holder, waiting: number, waits: boolean): number {
    const held = holder.held()
    const { share } = this
    let bytes = (share - held) / Math.max(1, holder.readersCount)
    if (!waits && waiting < this.waitingMax) {
      let readers = 0
      let all = held
      for (const one of this.holders) {
        readers += one.readersCount
        if (one !== holder) all += Math.max(share, one.held())
      }
      bytes = Math.max(bytes, (this.bytesMax - all) / Math.max(1, readers))
    }
    return bytes <= 0 ? 0 : Math.max(READ_BYTES_MIN, Math.min(bytes, READ_BYTES_MAX))
  }

  private get share(): number {
    return this.bytesMax * SHARE
  }

  private get waitingMax(): number {
    return (this.bytesMax - (this.tables - 1) * this.share) / 2
  }
}

export function memoryOf(rows: number, bytes: number): number {
  return bytes + rows * ROW_OVERHEAD_BYTES
}
