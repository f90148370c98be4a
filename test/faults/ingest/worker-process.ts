/**
 * One process of ingest or load, kept alive. One that stops itself at a failpoint is a zombie from then on: it is let go on after
 * `zombieMs`, by when others may have taken its partitions and done its work.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { IngestFailpoint } from '../../../src/platform/index.ts'
import { cleanEnvironment } from '../../support/product.ts'
import { KeptProcess, type Life } from '../kept-process.ts'
import { HALT_LINE, type LoaderPlan, UP_LINE, type WorkerPlan } from './worker-plan.ts'

const WORKER = fileURLToPath(import.meta.resolve('./worker.ts'))
const LOADER = fileURLToPath(import.meta.resolve('./loader.ts'))
/** Files that modules look for, and where they do, once they are one file. */
const READ_BY_MODULES = [
  [join(import.meta.dir, '../../../src/event/assembly'), 'assembly'],
  [
    join(import.meta.dir, '../../../node_modules/@platformatic/wasm-utils/dist/native.wasm'),
    '../dist/native.wasm',
  ],
] as const
const STOPPED = 'stopped at '

export class WorkerProcess extends KeptProcess {
  /** Where it was stopped, and how often. */
  readonly stops = new Map<IngestFailpoint, number>()
  /** What it says while it cannot go on, in this life. */
  halt = ''

  constructor(
    /** As `bundleWorkers` made it. */
    script: string,
    plan: WorkerPlan | LoaderPlan,
    /** Asked at each start. */
    nextLife: () => Life,
    private readonly zombieMs: number,
  ) {
    const words = [script, JSON.stringify(plan)]
    super(plan.name, { words, env: cleanEnvironment(), upLine: UP_LINE }, nextLife)
  }

  protected override heard(line: string): void {
    if (line.startsWith(HALT_LINE)) this.halt = line.slice(HALT_LINE.length)
    if (!line.startsWith(STOPPED)) return
    const place = line.slice(STOPPED.length) as IngestFailpoint
    this.stops.set(place, (this.stops.get(place) ?? 0) + 1)
    const { child } = this
    setTimeout(() => child?.kill('SIGCONT'), this.zombieMs)
  }
}

export type Bundles = { worker: string; loader: string }

/** Each with all its modules in one compiled file below `folder`: a start takes 0.15 s of CPU, not 1 s. Gives their paths. */
export async function bundleWorkers(folder: string): Promise<Bundles> {
  const outdir = join(folder, 'worker')
  for (const [from, to] of READ_BY_MODULES) cpSync(from, join(outdir, to), { recursive: true })
  const form = { target: 'bun', format: 'cjs', bytecode: true } as const
  await Bun.build({ entrypoints: [WORKER, LOADER], outdir, naming: '[name].[ext]', ...form })
  return { worker: join(outdir, 'worker.js'), loader: join(outdir, 'loader.js') }
}
