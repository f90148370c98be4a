/**
 * One loader, kept alive. One that stops itself at a failpoint tells the rig, which lets it go on: later, as a zombie
 * whose heirs have done its work, or at once after ClickHouse was killed at that very place.
 */
import { fileURLToPath } from 'node:url'
import type { LoadFailpoint } from '../../../src/platform/index.ts'
import { cleanEnvironment } from '../../support/product.ts'
import { KeptProcess, type Life } from '../kept-process.ts'
import { UP_LINE, type WorkerPlan } from './worker-plan.ts'

export const WORKER = fileURLToPath(import.meta.resolve('./worker.ts'))
const STOPPED = 'stopped at '

export class LoaderProcess extends KeptProcess {
  constructor(
    /** As `bundleWorker` made it. */
    worker: string,
    plan: WorkerPlan,
    nextLife: () => Life,
    /** It stands still at `place` until `goOn`. */
    private readonly stopped: (place: LoadFailpoint, goOn: () => void) => void,
  ) {
    const words = [worker, JSON.stringify(plan)]
    super(plan.name, { words, env: cleanEnvironment(), upLine: UP_LINE }, nextLife)
  }

  protected override heard(line: string): void {
    if (!line.startsWith(STOPPED)) return
    const { child } = this
    this.stopped(line.slice(STOPPED.length) as LoadFailpoint, () => child?.kill('SIGCONT'))
  }
}
