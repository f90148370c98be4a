/** One `headrace capture`, kept alive on one data folder, so that each life finds the spool of the one before. */
import { join, resolve } from 'node:path'
import { KeptProcess, type Life } from '../kept-process.ts'

const MAIN = resolve(import.meta.dir, '../../../src/main.ts')

export class CaptureProcess extends KeptProcess {
  readonly url: string
  readonly dataDir: string
  private readonly own: Record<string, string>

  constructor(
    name: string,
    folder: string,
    port: number,
    env: Record<string, string>,
    /** Asked at each start. */
    nextLife: () => Life,
  ) {
    const address = `127.0.0.1:${port}`
    const dataDir = join(folder, name)
    const own = { HEADRACE_DATA_DIR: dataDir, HEADRACE_CAPTURE_ADDRESS: address }
    const command = { words: [MAIN, 'capture'], env: { ...env, ...own }, upLine: 'capture takes events' }
    super(name, command, nextLife)
    this.url = `http://${address}`
    this.dataDir = dataDir
    this.own = own
  }

  override resume(env: Record<string, string>): void {
    super.resume({ ...env, ...this.own })
  }

  /** Undefined while it does not answer. */
  async metrics(): Promise<Record<string, number> | undefined> {
    try {
      const response = await fetch(`${this.url}/metrics`, { keepalive: false })
      const samples = (await response.text()).split('\n').filter((line) => !line.startsWith('#'))
      return Object.fromEntries(
        samples.map((line) => [line.slice(0, line.indexOf(' ')), Number(line.split(' ').at(-1))]),
      )
    } catch {
      return undefined
    }
  }
}
