/**
 * A run on its way: written a little at a time, made durable beside the work, and then ready for the manifest.
 *
 *   writing ──all written──▶ syncing ──durable──▶ ready
 */
import type { RunRow } from './manifest.ts'
import type { RecentClaims } from './recent-claims.ts'
import type { Change } from './run-files.ts'
import type { RunWriter } from './run-writer.ts'

/** What writes the claims: `step` writes about so many, and is true when all are written. */
export type Source = { readonly writer: RunWriter; step(claims: number): boolean }

export type BuildOptions = {
  seq: number
  level: number
  /** What it takes the place of. */
  removed: readonly RunRow[]
  journalSeq?: number
  /** Claims written per claim that comes. */
  pace: number
  /** When so many came since it was written, the disk is waited for. */
  waitAfter: number
}

export class RunBuild {
  private written = false
  /** Claims that came since it was written. */
  private came = 0

  constructor(
    private readonly source: Source,
    private readonly options: BuildOptions,
  ) {}

  get writer(): RunWriter {
    return this.source.writer
  }

  get removed(): readonly RunRow[] {
    return this.options.removed
  }

  /**
   * The work that `claims` more claims bring; true when it is ready. `mustEnd`: there is no room to go on meanwhile, so the
   * disk is waited for.
   */
  advance(claims: number, mustEnd = false): boolean {
    const { pace, waitAfter } = this.options
    if (!this.written) {
      if (!this.source.step(mustEnd ? Infinity : claims * pace)) return false
      this.writer.finish()
      this.written = true
    }
    this.came += claims
    if (!mustEnd && this.came <= waitAfter) return this.writer.isDurable
    this.writer.syncNow()
    return true
  }

  get change(): Change {
    const { seq, level, removed, journalSeq } = this.options
    return {
      added: { writer: this.writer, seq, level },
      removed,
      ...(journalSeq === undefined ? {} : { journalSeq }),
    }
  }
}

/** Writes the newest claims, which stay in memory until their run is there. */
export class Seal implements Source {
  private readonly places: Uint32Array
  private written = 0

  constructor(
    readonly recent: RecentClaims,
    readonly writer: RunWriter,
  ) {
    this.places = recent.sorted()
  }

  step(claims: number): boolean {
    const { places, recent, writer } = this
    const end = Math.min(this.written + claims, places.length)
    for (; this.written < end; this.written++) writer.add(recent.words, places[this.written]!)
    return end === places.length
  }
}
