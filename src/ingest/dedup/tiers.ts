/**
 * Where the claims of an index are, from the newest to the oldest: in memory and in the journal; in memory and in a
 * file on its way to the disk; in runs. A little is moved on with each batch, so no batch pays for much:
 *
 *   recent ──enough of them──▶ sealing ──durable──▶ run ──8 neighbours──▶ larger run ──all expired──▶ gone
 *
 * What must hold: a claim is in the journal or in a run of the manifest, at every moment. When another process has
 * written, everything is read anew and unfinished work dropped.
 */
import { statSync } from 'node:fs'
import type { Visit } from './claim-words.ts'
import type { DedupMemory } from './dedup-memory.ts'
import type { JournalRow, Manifest } from './manifest.ts'
import { Merge } from './merge.ts'
import { nextMerge } from './merge-plan.ts'
import { RecentClaims } from './recent-claims.ts'
import type { Run } from './run.ts'
import { RunBuild, Seal } from './run-build.ts'
import { type Change, type OpenRun, RunFiles } from './run-files.ts'

/** Per stored claim: a run is written while an eighth of the next comes. */
const SEALED_PER_CLAIM = 8
/** Per stored claim and level: four times the rate at which a level grows, so that few merges are cut off by a move. */
const MERGED_PER_CLAIM = 4

export class Tiers {
  private recent = new RecentClaims()
  /** Rows of the journal that `recent` holds. */
  private journal: { seq: number; count: number; lastMs: number }[] = []
  private sealing: { recent: RecentClaims; build: RunBuild } | undefined
  /** From the oldest to the newest. */
  private runs: OpenRun[] = []
  private merges: RunBuild[] = []
  private lastSeq = 0
  /** Runs have changed since merges were planned. */
  private unplanned = false
  private readonly files: RunFiles

  constructor(
    private readonly manifest: Manifest,
    private readonly windowMs: number,
    private readonly memory: DedupMemory,
  ) {
    this.files = new RunFiles(manifest, memory)
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
        const run = open.get(row.file) ?? this.files.open(row.file)
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

  /** Tells `visit` of the claims of the event at `at` of `key`, the newest first; `runs` as `screen` says. */
  find(key: Uint32Array, at: number, runs: readonly Run[] | undefined, visit: Visit): void {
    this.recent.find(key, at, visit)
    this.sealing?.recent.find(key, at, visit)
    if (runs) for (const run of runs) run.find(key, at, visit)
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

  get memoryBytes(): number {
    let bytes = this.recent.bytes + (this.sealing?.recent.bytes ?? 0)
    for (const { run } of this.runs) bytes += run.memoryBytes
    return bytes
  }

  /** `claims` more are about to come; what was appended before `before` has expired. False: as `settle`. */
  advance(claims: number, before: number): boolean {
    return this.advanceSeal(claims, before) && this.advanceMerges(claims, before) && this.expire(before)
  }

  close(): void {
    this.dropUnfinished()
    for (const { run } of this.runs) run.close()
    this.runs = []
  }

  /** Removes files of the folder that nobody needs. */
  removeStrays(): void {
    this.files.removeStrays(this.builds().map(({ writer }) => writer))
  }

  private advanceSeal(claims: number, before: number): boolean {
    const { sealing, recent } = this
    // Before it grows beyond, which would take twice the memory.
    const isFull = recent.count + claims > this.memory.sealClaims
    if (sealing) {
      if (!sealing.build.advance(claims, isFull)) return true
      if (!this.settle(sealing.build.change)) return false
      this.sealing = undefined
    }
    if (this.expiredInJournal(before) * 2 > recent.count) return this.trimJournal(before)
    if (isFull && recent.count > 0) this.startSeal()
    return true
  }

  private startSeal(): void {
    const { recent } = this
    const { seq } = this.journal.at(-1)!
    const build = new RunBuild(new Seal(recent, this.files.create(recent.count)), {
      seq,
      level: 0,
      removed: [],
      journalSeq: seq,
      pace: SEALED_PER_CLAIM,
      waitAfter: Infinity,
    })
    this.sealing = { recent, build }
    this.recent = new RecentClaims(Math.min(recent.capacity, this.memory.sealClaims))
    this.journal = []
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
    for (const merge of [...this.merges]) {
      if (!merge.advance(claims)) continue
      if (!this.settle(merge.change)) return false
      this.merges = this.merges.filter((one) => one !== merge)
    }
    while (this.unplanned) this.planMerge(before)
    return true
  }

  private planMerge(before: number): void {
    const busy = this.merging()
    const ages = this.runs.map(({ seq, level, run }) => ({ level, busy: busy.has(seq), ...run.layout }))
    const plan = nextMerge(ages, this.windowMs)
    if (!plan) {
      this.unplanned = false
      return
    }
    const chosen = this.runs.slice(plan.from, plan.to)
    const inputs = chosen.map(({ run }) => run)
    const claims = inputs.reduce((sum, { count }) => sum + count, 0)
    const newest = chosen.at(-1)!
    const writer = this.files.create(claims)
    try {
      this.merges.push(
        new RunBuild(new Merge(inputs, writer, before), {
          seq: newest.seq,
          level: newest.level + 1,
          removed: chosen,
          pace: MERGED_PER_CLAIM,
          waitAfter: claims / MERGED_PER_CLAIM,
        }),
      )
    } catch (error) {
      writer.abandon()
      throw error
    }
  }

  /** At most one run at a time: a clock that leaps must not cost the whole index at once. */
  private expire(before: number): boolean {
    const busy = this.merging()
    const expired = this.runs.find(({ seq, run }) => run.layout.lastMs < before && !busy.has(seq))
    return expired === undefined || this.settle({ removed: [expired] })
  }

  /** Makes a change of the runs. False when another process has written: the caller loads anew. */
  private settle(change: Change): boolean {
    const added = this.files.commit(change)
    if (added === undefined) return false
    const gone = new Set(change.removed.map(({ seq }) => seq))
    for (const { seq, run } of this.runs) if (gone.has(seq)) run.close()
    this.runs = this.runs.filter(({ seq }) => !gone.has(seq))
    if (added) this.runs.push(added)
    this.runs.sort((a, b) => a.seq - b.seq)
    this.runsChanged()
    this.removeStrays()
    return true
  }

  /** Filters of newer runs come into memory before those of older ones, which expire sooner. */
  private runsChanged(): void {
    this.unplanned = true
    for (let i = this.runs.length - 1; i >= 0; i--) this.runs[i]!.run.loadFilter()
  }

  private merging(): Set<number> {
    return new Set(this.merges.flatMap(({ removed }) => removed.map(({ seq }) => seq)))
  }

  private builds(): RunBuild[] {
    return this.sealing ? [this.sealing.build, ...this.merges] : this.merges
  }

  /** Their files are left to `removeStrays`: a commit that failed may be in the manifest all the same. */
  private dropUnfinished(): void {
    for (const { writer } of this.builds()) writer.close()
    this.sealing = undefined
    this.merges = []
  }
}
