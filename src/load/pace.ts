/**
 * How much one insert of a table holds, and when the next one is due. In: what became of the inserts. Out: a time, a size.
 * Pure but for its own numbers; times are those of the caller.
 *
 * Never sooner than `everyMs` after the last cut, so that ClickHouse makes few parts; what comes meanwhile makes the next
 * one larger. With `busyPercent` below 100 it rests after each insert, in proportion to how long that took, up to 30 s, so
 * that a slow ClickHouse is left more time. Too many parts: twice as long between two inserts, up to 30 s; no memory: half the size,
 * down to 1 MB; each insert that is taken leads a step back, if it was of that size.
 */
export type PaceOptions = {
  /** At least so long between two cuts. */
  everyMs: number
  /** Share of the time that inserts may take, 1 … 100. */
  busyPercent: number
  /** Of a cut. */
  bytesMax: number
}

const EVERY_MS_MAX = 30_000
const BYTES_MIN = 2 ** 20
/** One insert that took long must not hold up the next for long. */
const REST_MS_MAX = 30_000
/** Per insert that is taken. */
const FASTER = 0.5
const LARGER = 1.25

export class Pace {
  private everyMs: number
  private bytes: number
  private dueMs = Number.NEGATIVE_INFINITY
  /** How long it was to `dueMs` when that was set: a clock that is set back holds up nothing for longer. */
  private waitMs = 0

  constructor(private readonly options: PaceOptions) {
    this.everyMs = options.everyMs
    this.bytes = options.bytesMax
  }

  /** The next cut may be made after this long. */
  dueInMs(nowMs: number): number {
    return Math.max(0, Math.min(this.dueMs - nowMs, this.waitMs))
  }

  /** Largest cut now. */
  get bytesMax(): number {
    return this.bytes
  }

  /** A cut was made. */
  cut(nowMs: number): void {
    this.wait(nowMs, this.everyMs)
  }

  /** Its insert was taken, or a piece of one. */
  taken(nowMs: number, tookMs: number, bytes: number): void {
    const { everyMs, busyPercent, bytesMax } = this.options
    const rest = Math.min((tookMs * (100 - busyPercent)) / busyPercent, REST_MS_MAX)
    this.wait(nowMs, Math.max(this.dueInMs(nowMs), rest))
    this.everyMs = Math.max(everyMs, this.everyMs * FASTER)
    // A small one says nothing of whether a larger one would be taken.
    if (bytes > this.bytes / 2) this.bytes = Math.min(bytesMax, this.bytes * LARGER)
  }

  /** ClickHouse has too many parts. */
  crowded(): void {
    this.everyMs = Math.max(this.everyMs, Math.min(2 * this.everyMs, EVERY_MS_MAX))
  }

  /** ClickHouse has no memory for an insert. */
  tooLarge(): void {
    this.bytes = Math.max(Math.min(BYTES_MIN, this.bytes), this.bytes / 2)
  }

  private wait(nowMs: number, ms: number): void {
    this.dueMs = nowMs + ms
    this.waitMs = ms
  }
}
