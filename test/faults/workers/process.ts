/**
 * One process of ingest or load, kept alive. One that stops itself at a failpoint stands still until whoever is told of
 * it lets it go on: it is a zombie then, if others have taken its partitions and done its work meanwhile.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import type { Failpoint } from '../../../src/platform/index.ts'
import { cleanEnvironment } from '../../support/product.ts'
import { KeptProcess, type Life } from '../kept-process.ts'
import { HALT_LINE, type IngestPlan, type LoadPlan, UP_LINE } from './plan.ts'

const ROOT = join(import.meta.dir, '../../..')
/** Files that modules look for, and where they do, once they are one file. */
const READ_BY_MODULES = [
  [join(ROOT, 'src/event/assembly'), 'assembly'],
  ...['prelude.js', 'prelude-event.js', 'prelude-chain.js'].map(
    (file) => [join(ROOT, 'src/transform', file), file] as const,
  ),
  [join(ROOT, 'node_modules/@platformatic/wasm-utils/dist/native.wasm'), '../dist/native.wasm'],
] as const
const STOPPED = 'stopped at '

/** Told when a process stands still. */
export type Stopped = (place: Failpoint, goOn: () => void) => void

export class WorkerProcess extends KeptProcess {
  /** Where it was stopped, and how often. */
  readonly stops = new Map<Failpoint, number>()
  /** What it says while it cannot go on, in this life. */
  halt = ''

  constructor(
    /** As `bundleWorkers` made it. */
    script: string,
    plan: IngestPlan | LoadPlan,
    /** Asked at each start. */
    nextLife: () => Life,
    private readonly stopped: Stopped,
  ) {
    const words = [script, JSON.stringify(plan)]
    super(plan.name, { words, env: cleanEnvironment(), upLine: UP_LINE }, nextLife)
  }

  protected override heard(line: string): void {
    if (line.startsWith(HALT_LINE)) this.halt = line.slice(HALT_LINE.length)
    if (!line.startsWith(STOPPED)) return
    const place = line.slice(STOPPED.length) as Failpoint
    this.stops.set(place, (this.stops.get(place) ?? 0) + 1)
    const { child } = this
    this.stopped(place, () => child?.kill('SIGCONT'))
  }
}

export type Bundles = { ingest: string; load: string }

/** Each with all its modules in one compiled file below `folder`: a start takes 0.15 s of CPU, not 1 s. Gives their paths. */
export async function bundleWorkers(folder: string): Promise<Bundles> {
  const outdir = join(folder, 'worker')
  for (const [from, to] of READ_BY_MODULES) cpSync(from, join(outdir, to), { recursive: true })
  const form = { target: 'bun', format: 'cjs', bytecode: true } as const
  const entrypoints = [join(import.meta.dir, 'ingest.ts'), join(import.meta.dir, 'load.ts')]
  await Bun.build({ entrypoints, outdir, naming: '[name].[ext]', ...form })
  return { ingest: join(outdir, 'ingest.js'), load: join(outdir, 'load.js') }
}
