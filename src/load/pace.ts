/**
 * How much one insert of a table holds, and when the next one is due. In: what became of the inserts. Out: a time, a size.
 * Pure but for its own numbers; times are those of the caller.
 *
 * Never sooner than `everyMs` after the last cut, so that ClickHouse makes few parts; what comes meanwhile makes the next
 * one larger. With `busyPercent` below 100 it rests after each insert, in proportion to how long that took, up to 30 s, so
 * that a slow ClickHouse is left more time. Too many parts: twice as long between two inserts, up to 30 s; no memory: half the size,
 * down to 1 MB; each insert that is taken leads a step back, if it was of that size.
 *
 * And never so often that ClickHouse forgets the token of an insert while a try of it may still be on its way: a token is
 * one entry for each month, of 10,000 (`src/warehouse/ddl.ts`), and a try may take two minutes. At 40 a second, over all
 * loaders of a table, an entry lives four. Inserts into one month or a few never come near it; an import of many years does.
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
/** Of what one insert holds at least, however little memory there is. */
export const BYTES_MIN = 2 ** 20
/** Of an entry among the tokens that ClickHouse remembers. */
const TOKEN_MS = 25
/** One insert that took long must not hold up the next for long. */
const REST_MS_MAX = 30_000
/** Per insert that is taken. */
const FASTER = 0.5
const LARGER = 1.25

export class Pace {
  private dueMs = Number.NEGATIVE_INFINITY
  /** How long it was to `dueMs` when that was set: a clock that is set back holds up nothing for longer. */
  private waitMs = 0

  constructor(
    private readonly options: PaceOptions,
    /** What ClickHouse bears now. */
    private readonly borne = { everyMs: options.everyMs, bytes: options.bytesMax },
  ) {}

  /** For other inserts of the same table, with times of their own: what one learns of ClickHouse, the other knows. */
  beside(): Pace {
    return new Pace(this.options, this.borne)
  }

  /** The next cut may be made after this long. */
  dueInMs(nowMs: number): number {
    return Math.max(0, Math.min(this.dueMs - nowMs, this.waitMs))
  }

  /** Largest cut now. */
  get bytesMax(): number {
    return this.borne.bytes
  }

  /** A cut was made. `tokens`: its months, divided by the share that this loader has of the table. */
  cut(nowMs: number, tokens: number): void {
    this.wait(nowMs, Math.max(this.borne.everyMs, tokens * TOKEN_MS))
  }

  /** Its insert was taken, or a piece of one. */
  taken(nowMs: number, tookMs: number, bytes: number): void {
    const { everyMs, busyPercent, bytesMax } = this.options
    const { borne } = this
    const rest = Math.min((tookMs * (100 - busyPercent)) / busyPercent, REST_MS_MAX)
    this.wait(nowMs, Math.max(this.dueInMs(nowMs), rest))
    borne.everyMs = Math.max(everyMs, borne.everyMs * FASTER)
    // A small one says nothing of whether a larger one would be taken.
    if (bytes > borne.bytes / 2) borne.bytes = Math.min(bytesMax, borne.bytes * LARGER)
  }

  /** ClickHouse has too many parts. */
  crowded(): void {
    const { borne } = this
    borne.everyMs = Math.max(borne.everyMs, Math.min(2 * borne.everyMs, EVERY_MS_MAX))
  }

  /** ClickHouse has no memory for an insert of so many bytes. */
  tooLarge(bytes: number): void {
    const { borne } = this
    borne.bytes = Math.max(Math.min(BYTES_MIN, borne.bytes), Math.min(bytes, borne.bytes) / 2)
  }

  private wait(nowMs: number, ms: number): void {
    this.dueMs = nowMs + ms
    this.waitMs = ms
  }
}
