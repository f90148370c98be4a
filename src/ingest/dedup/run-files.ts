/**
 * The folder of an index's runs: new files, opened ones, and the removal of those that the manifest does not name. A file
 * is durable before the manifest names it, and removed after the manifest that does not name it is.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, unlink } from 'node:fs'
import { join } from 'node:path'
import { syncDir } from '../../platform/index.ts'
import type { DedupMemory } from './dedup-memory.ts'
import { runsFolder } from './failures.ts'
import type { Manifest, RunRow } from './manifest.ts'
import { Run } from './run.ts'
import { RunWriter } from './run-writer.ts'

export type OpenRun = RunRow & { run: Run }

/** What takes the place of what in the manifest: a new run, of runs and of the journal through `journalSeq`. */
export type Change = {
  added?: { writer: RunWriter; seq: number; level: number }
  removed: readonly RunRow[]
  journalSeq?: number
}

const GONE = '.gone'

export class RunFiles {
  private readonly folder: string

  constructor(
    private readonly manifest: Manifest,
    private readonly memory: DedupMemory,
  ) {
    this.folder = runsFolder(manifest.path)
  }

  open(file: string): Run {
    return new Run(join(this.folder, file), this.memory)
  }

  create(countMax: number): RunWriter {
    mkdirSync(this.folder, { recursive: true })
    return new RunWriter(join(this.folder, `${randomUUID()}.run`), countMax)
  }

  /**
   * Brings `change` into the manifest. Gives the new run, null when there is none or it came out empty; undefined, with
   * nothing changed, when another process has written.
   */
  commit({ added, removed, journalSeq }: Change): OpenRun | null | undefined {
    // Opened before it is in the manifest: what cannot be read back must not take the place of what can.
    const run = added && this.openWritten(added.writer)
    if (added && !run) return undefined
    const row = added && run!.count > 0 ? { seq: added.seq, level: added.level, file: run!.file } : undefined
    let committed = false
    try {
      if (run) syncDir(this.folder)
      committed = this.manifest.writeDurably(() => {
        if (this.manifest.isChanged() || (run && !existsSync(run.path))) return false
        for (const { seq } of removed) this.manifest.removeRun(seq)
        if (row) this.manifest.addRun(row)
        if (journalSeq !== undefined) this.manifest.trimJournal(journalSeq)
        return true
      })
    } finally {
      if (!committed || !row) run?.close()
    }
    if (!committed) return undefined
    added?.writer.close()
    return row ? { ...row, run: run! } : null
  }

  /** Removes files that the manifest does not name and none of `writers` writes, such as those of a process that was killed. */
  removeStrays(writers: readonly RunWriter[]): void {
    if (!existsSync(this.folder)) return
    this.manifest.write(() => {
      const kept = new Set(this.manifest.runs().map(({ file }) => file))
      for (const { file } of writers) kept.add(file)
      for (const file of readdirSync(this.folder)) {
        if (kept.has(file)) continue
        const gone = file.endsWith(GONE) ? file : `${file}${GONE}`
        // Renamed at once, while nobody can bring it into the manifest; removing a large file takes its time.
        if (gone !== file) renameSync(join(this.folder, file), join(this.folder, gone))
        unlink(join(this.folder, gone), () => {})
      }
    })
  }

  /** Undefined when another owner has removed the file. */
  private openWritten(writer: RunWriter): Run | undefined {
    try {
      return this.open(writer.file)
    } catch (error) {
      if (!existsSync(writer.path)) return undefined
      throw error
    }
  }
}
