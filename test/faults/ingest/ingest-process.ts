/**
 * One ingest process, kept alive. One that stops itself at a failpoint is a zombie from then on: it is let go on after
 * `zombieMs`, by when others may have taken its partitions and done its work.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { IngestFailpoint } from '../../../src/platform/index.ts'
import { cleanEnvironment } from '../../support/product.ts'
import { KeptProcess, type Life } from '../kept-process.ts'
import { UP_LINE, type WorkerPlan } from './worker-plan.ts'

const WORKER = fileURLToPath(import.meta.resolve('./worker.ts'))
/** Files that modules look for, and where they do, once they are one file. */
const READ_BY_MODULES = [
  [join(import.meta.dir, '../../../src/event/assembly'), 'assembly'],
  [
    join(import.meta.dir, '../../../node_modules/@platformatic/wasm-utils/dist/native.wasm'),
    '../dist/native.wasm',
  ],
] as const
const STOPPED = 'stopped at '

export class IngestProcess extends KeptProcess {
  /** Where it was stopped, and how often. */
  readonly stops = new Map<IngestFailpoint, number>()

  constructor(
    /** As `bundleWorker` made it. */
    worker: string,
    plan: WorkerPlan,
    /** Asked at each start. */
    nextLife: () => Life,
    private readonly zombieMs: number,
  ) {
    const words = [worker, JSON.stringify(plan)]
    super(plan.name, { words, env: cleanEnvironment(), upLine: UP_LINE }, nextLife)
  }

  protected override heard(line: string): void {
    if (!line.startsWith(STOPPED)) return
    const place = line.slice(STOPPED.length) as IngestFailpoint
    this.stops.set(place, (this.stops.get(place) ?? 0) + 1)
    const { child } = this
    setTimeout(() => child?.kill('SIGCONT'), this.zombieMs)
  }
}

/** The worker with all its modules in one file below `folder`: it starts in 0.1 s instead of 1 s. Gives its path. */
export async function bundleWorker(folder: string): Promise<string> {
  const outdir = join(folder, 'worker')
  const { outputs } = await Bun.build({ entrypoints: [WORKER], target: 'bun', outdir })
  for (const [from, to] of READ_BY_MODULES) cpSync(from, join(outdir, to), { recursive: true })
  return outputs[0]!.path
}
