/**
 * Where the claims of an index are, from the newest to the oldest: in memory and in the journal; in memory and in a
 * file on its way to the disk; in runs. A little is moved on with each batch, so no batch pays for much:
 *
 *   recent ──65,536 claims──▶ sealing ──durable──▶ run ──8 neighbours──▶ larger run ──all expired──▶ gone
 *
 * What must hold: a claim is in the journal or in a run of the manifest, at every moment; a file is durable before the
 * manifest names it, and is removed after the manifest that does not name it is. A file that no manifest names is
 * removed by whoever finds it. When another process has written, everything is read anew and unfinished work dropped.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, unlink } from 'node:fs'
import { join } from 'node:path'
import { syncDir } from '../../platform/index.ts'
import type { Visit } from './claim-words.ts'
import { runsFolder } from './failures.ts'
import type { JournalRow, Manifest, RunRow } from './manifest.ts'
import { Merge } from './merge.ts'
import { nextMerge } from './merge-plan.ts'
import { RecentClaims } from './recent-claims.ts'
import { type FilterMemory, Run } from './run.ts'
import { RunWriter } from './run-writer.ts'

export type TierOptions = {
  windowMs: number
  filterMemory: FilterMemory
  /** From so many recent claims on a run is made of them: 2.4 MB in memory. */
  sealClaims: number
}

type Sealing = {
  recent: RecentClaims
  /** Where its claims are, in order, and how many of them are written. */
  places: Uint32Array
  written: number
  writer: RunWriter
  seq: number
  addedSince: number
}
type Merging = { merge: Merge; rows: RunRow[]; finished: boolean; addedSince: number }
type OpenRun = RunRow & { run: Run }

/** Per stored claim: a run is written while an eighth of the next comes. */
const SEALED_PER_CLAIM = 8
/** Per stored claim and level: four times the rate at which a level grows, so that few merges are cut off by a move. */
const MERGED_PER_CLAIM = 4
const GONE = '.gone'

export class Tiers {
  recent = new RecentClaims()
  /** Rows of the journal that `recent` holds. */
  private journal: { seq: number; count: number; lastMs: number }[] = []
  private sealing: Sealing | undefined
  /** From the oldest to the newest. */
  private runs: OpenRun[] = []
  private mergings: Merging[] = []
  private lastSeq = 0
  /** Runs have changed since merges were planned. */
  private unplanned = false
  private readonly folder: string

  constructor(
    private readonly manifest: Manifest,
    private readonly options: TierOptions,
  ) {
    this.folder = runsFolder(manifest.path)
  }

  /** Reads what the manifest says; to be called in one transaction of it. */
  load(): void {
    this.dropUnfinished()
    this.recent = new RecentClaims()
    this.journal = []
    this.lastSeq = 0
    for (const row of this.manifest.journal()) this.took(row)
    const open = new Map(this.runs.map((one) => [one.file, one.run]))
    this.runs = []
    try {
      for (const row of this.manifest.runs()) {
        const run = open.get(row.file) ?? this.openRun(row.file)
        open.delete(row.file)
        this.runs.push({ ...row, run })
        this.lastSeq = Math.max(this.lastSeq, row.seq)
      }
    } finally {
      for (const run of open.values()) run.close()
    }
    this.runsChanged()
  }

  nextSeq(): number {
    return this.lastSeq + 1
  }

  /** After the transaction that has put the row into the journal. */
  took(row: JournalRow): void {
    this.recent.putAll(row.claims, row.count)
    this.journal.push({ seq: row.seq, count: row.count, lastMs: row.lastMs })
    this.lastSeq = Math.max(this.lastSeq, row.seq)
  }

  /** By place, the runs that may hold the uuids of `count` keys, newer ones first. */
  screen(keys: Uint32Array, count: number): Map<number, Run[]> {
    const runs = new Map<number, Run[]>()
    for (let i = this.runs.length - 1; i >= 0; i--) {
      const { run } = this.runs[i]!
      run.screen(keys, count, (place) => {
        const before = runs.get(place)
        if (before) before.push(run)
        else runs.set(place, [run])
      })
    }
    return runs
  }

  /** Calls `visit` for the claims with the uuid at `at` of `key`, newer ones first; `runs` as `screen` says. */
  find(key: Uint32Array, at: number, runs: readonly Run[] | undefined, visit: Visit): void {
    let enough = this.recent.find(key, at, visit, false)
    if (this.sealing) enough = this.sealing.recent.find(key, at, visit, enough)
    if (runs) for (const run of runs) enough = run.find(key, at, visit, enough)
  }

  /** Of claims that were replaced, the older ones count until they are merged away. */
  get count(): number {
    let count = this.recent.count + (this.sealing?.recent.count ?? 0)
    for (const { run } of this.runs) count += run.count
    return count
  }

  /** On disk, without files that are being written. */
  get bytes(): number {
    const { path } = this.manifest
    let bytes = 0
    for (const file of [path, `${path}-wal`]) bytes += statSync(file, { throwIfNoEntry: false })?.size ?? 0
    for (const { run } of this.runs) bytes += run.bytes
    return bytes
  }

  /**
   * The work that `claims` more claims bring; what was appended before `before` has expired. False when another
   * process has written: the caller loads anew.
   */
  advance(claims: number, before: number): boolean {
    return this.advanceSeal(claims, before) && this.advanceMerges(claims, before) && this.expire(before)
  }

  close(): void {
    this.dropUnfinished()
    for (const { run } of this.runs) run.close()
    this.runs = []
  }

  /** Removes files that the manifest does not name, such as those of a process that was killed. */
  removeStrays(): void {
    if (!existsSync(this.folder)) return
    this.manifest.write(() => {
      const kept = new Set(this.manifest.runs().map(({ file }) => file))
      for (const writer of this.writers()) kept.add(fileOf(writer))
      for (const file of readdirSync(this.folder)) {
        if (kept.has(file)) continue
        const gone = file.endsWith(GONE) ? file : `${file}${GONE}`
        // Renamed at once, while nobody can bring it into the manifest; removing a large file takes its time.
        if (gone !== file) renameSync(join(this.folder, file), join(this.folder, gone))
        unlink(join(this.folder, gone), () => {})
      }
    })
  }

  private advanceSeal(claims: number, before: number): boolean {
    const { sealing, recent, options } = this
    if (sealing) {
      if (!this.writeSealing(sealing, claims * SEALED_PER_CLAIM)) return true
      sealing.addedSince += claims
      // A disk that is so slow is waited for, or memory would grow.
      if (sealing.addedSince > options.sealClaims) sealing.writer.syncNow()
      else if (!sealing.writer.isDurable) return true
      const row: RunRow = { seq: sealing.seq, file: fileOf(sealing.writer), level: 0 }
      if (!this.commit(sealing.writer, row, [], sealing.seq)) return false
      this.sealing = undefined
    }
    if (this.expiredInJournal(before) * 2 > recent.count) return this.trimJournal(before)
    if (recent.count >= options.sealClaims) this.startSeal()
    return true
  }

  private startSeal(): void {
    const { recent } = this
    this.sealing = {
      recent,
      places: recent.sorted(),
      written: 0,
      writer: this.newWriter(recent.count),
      seq: this.journal.at(-1)!.seq,
      addedSince: 0,
    }
    this.recent = new RecentClaims(recent)
    this.journal = []
  }

  /** Writes about `claims` claims; true when the file is whole. */
  private writeSealing(sealing: Sealing, claims: number): boolean {
    const { places, recent, writer } = sealing
    const { length } = places
    const end = Math.min(sealing.written + claims, length)
    if (sealing.written === length) return true
    for (; sealing.written < end; sealing.written++) writer.add(recent.words, places[sealing.written]!)
    if (end === length) writer.finish()
    return end === length
  }

  private expiredInJournal(before: number): number {
    let expired = 0
    for (const { count, lastMs } of this.journal) {
      if (lastMs >= before) break
      expired += count
    }
    return expired
  }

  /** For a partition whose window is less than a run. */
  private trimJournal(before: number): boolean {
    const isOurs = this.manifest.write(() => {
      if (this.manifest.isChanged()) return false
      this.manifest.trimJournalBefore(before)
      return true
    })
    if (!isOurs) return false
    this.recent = this.recent.since(before)
    this.journal = this.journal.filter(({ lastMs }) => lastMs >= before)
    return true
  }

  private advanceMerges(claims: number, before: number): boolean {
    for (const merging of [...this.mergings]) {
      if (!merging.finished) {
        if (!merging.merge.step(claims * MERGED_PER_CLAIM)) continue
        merging.merge.writer.finish()
        merging.finished = true
      }
      merging.addedSince += claims
      const { writer, runs } = merging.merge
      const inputs = runs.reduce((sum, run) => sum + run.count, 0)
      if (merging.addedSince > inputs / 4) writer.syncNow()
      else if (!writer.isDurable) continue
      const newest = merging.rows.at(-1)!
      const row: RunRow = { seq: newest.seq, file: fileOf(writer), level: newest.level + 1 }
      if (!this.commit(writer, row, merging.rows, undefined)) return false
      this.mergings = this.mergings.filter((one) => one !== merging)
    }
    this.planMerges(before)
    return true
  }

  private planMerges(before: number): void {
    while (this.unplanned) {
      const busy = new Set(this.mergings.flatMap(({ rows }) => rows.map(({ seq }) => seq)))
      const ages = this.runs.map(({ seq, level, run }) => ({
        level,
        busy: busy.has(seq),
        ...run.layout,
      }))
      const plan = nextMerge(ages, this.options.windowMs)
      if (!plan) {
        this.unplanned = false
        return
      }
      const chosen = this.runs.slice(plan.from, plan.to)
      const writer = this.newWriter(chosen.reduce((sum, { run }) => sum + run.count, 0))
      try {
        const merge = new Merge(
          chosen.map(({ run }) => run),
          writer,
          before,
        )
        this.mergings.push({ merge, rows: chosen, finished: false, addedSince: 0 })
      } catch (error) {
        writer.abandon()
        throw error
      }
    }
  }

  /** At most one run at a time: a clock that leaps must not cost the whole index at once. */
  private expire(before: number): boolean {
    const busy = new Set(this.mergings.flatMap(({ rows }) => rows.map(({ seq }) => seq)))
    const expired = this.runs.find(({ seq, run }) => run.layout.lastMs < before && !busy.has(seq))
    return expired === undefined || this.commit(undefined, undefined, [expired], undefined)
  }

  /**
   * Brings the file of `writer` into the manifest, in the place of `replaced` and of the journal through `journalSeq`.
   * False when another process has written.
   */
  private commit(
    writer: RunWriter | undefined,
    row: RunRow | undefined,
    replaced: readonly RunRow[],
    journalSeq: number | undefined,
  ): boolean {
    // Opened before it is in the manifest: what cannot be read back must not take the place of what can.
    const run = writer && this.openWritten(writer)
    if (writer && !run) return false
    let committed = false
    try {
      if (run) syncDir(this.folder)
      committed = this.manifest.writeDurably(() => {
        if (this.manifest.isChanged() || (writer && !existsSync(writer.path))) return false
        for (const { seq } of replaced) this.manifest.removeRun(seq)
        if (row && run!.count > 0) this.manifest.addRun(row)
        if (journalSeq !== undefined) this.manifest.trimJournal(journalSeq)
        return true
      })
    } finally {
      if (!committed || run?.count === 0) run?.close()
    }
    if (!committed) return false
    writer?.close()
    const gone = new Set(replaced.map(({ seq }) => seq))
    for (const one of this.runs) if (gone.has(one.seq)) one.run.close()
    this.runs = this.runs.filter(({ seq }) => !gone.has(seq))
    if (row && run!.count > 0) this.runs.push({ ...row, run: run! })
    this.runs.sort((a, b) => a.seq - b.seq)
    this.runsChanged()
    this.removeStrays()
    return true
  }

  /** Undefined when another owner has removed the file. */
  private openWritten(writer: RunWriter): Run | undefined {
    try {
      return this.openRun(fileOf(writer))
    } catch (error) {
      if (!existsSync(writer.path)) return undefined
      throw error
    }
  }

  private openRun(file: string): Run {
    return new Run(join(this.folder, file), this.options.filterMemory)
  }

  /** Filters of newer runs come into memory before those of older ones, which expire sooner. */
  private runsChanged(): void {
    this.unplanned = true
    for (let i = this.runs.length - 1; i >= 0; i--) this.runs[i]!.run.loadFilter()
  }

  private newWriter(countMax: number): RunWriter {
    mkdirSync(this.folder, { recursive: true })
    return new RunWriter(join(this.folder, `${randomUUID()}.run`), countMax)
  }

  private writers(): RunWriter[] {
    const merging = this.mergings.map(({ merge }) => merge.writer)
    return this.sealing ? [this.sealing.writer, ...merging] : merging
  }

  /** Their files are left to `removeStrays`: a commit that failed may be in the manifest all the same. */
  private dropUnfinished(): void {
    for (const writer of this.writers()) writer.close()
    this.sealing = undefined
    this.mergings = []
  }
}

function fileOf(writer: RunWriter): string {
  return writer.path.slice(writer.path.lastIndexOf('/') + 1)
}
