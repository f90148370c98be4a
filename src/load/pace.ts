/**
 * How much one insert of a table holds, and when the next one is due. In: what became of the inserts. Out: a time, a size.
 * Pure but for its own numbers; times are those of the caller.
 *
 * Never sooner than `everyMs` after the last cut, so that ClickHouse makes few parts; what comes meanwhile makes the next
 * one larger. With `busyPercent` below 100 it rests after each insert, in proportion to how long that took, up to 30 s, so
 * that a slow ClickHouse is left more time. Too many parts: twice as long between two inserts, up to 30 s; no memory: half the size,
 * down to 1 MB; each insert that is taken leads a step back, if it was of that size.
 *
 * And never so often that ClickHouse forgets the token of an insert while a try of it may still be on its way. A token is
 * one entry for each month, and a table remembers 10,000 (`src/warehouse/ddl.ts`):
 *
 * - *How long a try may be on its way.* Its first bytes go at most 10 s after Postgres said that the lock is held
 *   (`hold-intent.ts`); its loader gives up after 120 s; and what ClickHouse has begun it ends 120 s after it began
 *   (`max_execution_time`), but for the block that it writes then. So 130 s, and 250 s where a node stood still with all
 *   bytes of it in its socket, and began when the loader had given up.
 * - *How many entries come meanwhile.* Each pace sends when what it sent before is paid off, at 20 entries a second times the
 *   share of the table's partitions that its loader has; there are two of them (cuts, and what is settled beside). So over
 *   all loaders it is 40 a second, and at most 2 × 50 more for each loader, since an insert is paid off afterwards. In 130 s
 *   that is 5,200 + 100 for each loader: up to 48 loaders; in 200 s it is 8,000 + 100: up to 20.
 *
 * Inserts into one month or a few never come near it; an import of many years does.
 */
export type PaceOptions = {
  /** At least so long between two cuts. */
  everyMs: number
  /** Share of the time that inserts may take, 1 … 100. */
  busyPercent: number
  /** Of a cut. */
  bytesMax: number
  /** Of the table's partitions, those that this loader has now: above 0, at most 1. */
  share: () => number
}

const EVERY_MS_MAX = 30_000
/** Of what one insert holds at least, however little memory there is. */
export const BYTES_MIN = 2 ** 20
/** Of an entry among the tokens that ClickHouse remembers, for who has the whole table: see above. */
const TOKEN_MS = 50
/** One insert that took long must not hold up the next for long. */
const REST_MS_MAX = 30_000
/** Per insert that is taken. */
const FASTER = 0.5
const LARGER = 1.25

export class Pace {
  private dueMs = Number.NEGATIVE_INFINITY
  /** How long it was to `dueMs` when that was set: a clock that is set back holds up nothing for longer. */
  private waitMs = 0
  /** Entries that were used and are not paid off, as of `owedAtMs`. */
  private owed = 0
  private owedAtMs = Number.NEGATIVE_INFINITY

  constructor(
    private readonly options: PaceOptions,
    /** What ClickHouse bears now. */
    private readonly borne = { everyMs: options.everyMs, bytes: options.bytesMax },
  ) {}

  /** For other inserts of the same table, with times of their own: what one learns of ClickHouse, the other knows. */
  beside(): Pace {
    return new Pace(this.options, this.borne)
  }

  /** The next cut may be made after this long; sooner, if the share grows meanwhile. */
  dueInMs(nowMs: number): number {
    const payOffMs = Math.round((this.owedNow(nowMs) * TOKEN_MS) / this.options.share())
    return Math.max(this.restMs(nowMs), payOffMs)
  }

  /** Largest cut now. */
  get bytesMax(): number {
    return this.borne.bytes
  }

  /** A cut was made. */
  cut(nowMs: number): void {
    this.wait(nowMs, this.borne.everyMs)
  }

  /** An insert is sent, or sent again, which uses up so many entries, once. */
  sent(nowMs: number, tokens: number): void {
    this.owed = Math.max(this.owedNow(nowMs), tokens)
  }

  /** Its insert was taken, or several of its months alone: then the largest of them has `bytes`. */
  taken(nowMs: number, tookMs: number, bytes: number): void {
    const { everyMs, busyPercent, bytesMax } = this.options
    const { borne } = this
    const rest = Math.min((tookMs * (100 - busyPercent)) / busyPercent, REST_MS_MAX)
    this.wait(nowMs, Math.max(this.restMs(nowMs), rest))
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
    // It is the server that has none, whatever the size: smaller ones would not help.
    if (bytes <= BYTES_MIN) return
    borne.bytes = Math.max(Math.min(BYTES_MIN, borne.bytes), Math.min(bytes, borne.bytes) / 2)
  }

  private restMs(nowMs: number): number {
    return Math.max(0, Math.min(this.dueMs - nowMs, this.waitMs))
  }

  private owedNow(nowMs: number): number {
    const paid = (Math.max(0, nowMs - this.owedAtMs) / TOKEN_MS) * this.options.share()
    this.owed = Math.max(0, this.owed - paid)
    this.owedAtMs = nowMs
    return this.owed
  }

  private wait(nowMs: number, ms: number): void {
    this.dueMs = nowMs + ms
    this.waitMs = ms
  }
}
