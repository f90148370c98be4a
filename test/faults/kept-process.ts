/**
 * A process that is started again whenever it ends, as an orchestrator would, until it is to stop. It knows how each
 * life ended: at a failpoint, by our SIGKILL, by our SIGTERM; any other end is a defect and is kept in `defects`.
 */
import type { Failpoint } from '../../src/platform/index.ts'
import { collect } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const UP_MS_MAX = 60_000
/** Longer than a role gives itself. */
const STOPPED_MS_MAX = 30_000
/** How much of what it printed a defect shows. */
const SHOWN_LINES = 60

/** What a life is given beside the settings of all: HEADRACE_TEST_FAILPOINT and the seed of its choices. */
export type Life = { failpoints: string; seed: number }
export const LIVES_ON: Life = { failpoints: '', seed: 0 }

export type Command = {
  words: string[]
  env: Record<string, string>
  /** Printed when it has begun its work. */
  upLine: string
}

export class KeptProcess {
  /** Lives that have ended. */
  ended = 0
  /** It has begun its work, and has not ended as far as we know. */
  isUp = false
  readonly deaths = new Map<Failpoint | 'outside', number>()
  readonly defects: string[] = []
  protected child: Bun.Subprocess<'ignore', 'pipe', 'pipe'> | undefined
  private expected: 'nothing' | 'kill' | 'stop' = 'nothing'
  private stopping = false
  private running: Promise<void>
  private lastCode: number | null = null
  private lines: string[] = []

  constructor(
    readonly name: string,
    protected command: Command,
    /** Asked at each start. */
    private readonly nextLife: () => Life,
  ) {
    this.running = this.keep()
  }

  /** SIGKILL from outside; the next life begins at once. */
  async kill(): Promise<void> {
    const before = this.ended
    this.expected = 'kill'
    this.child?.kill('SIGKILL')
    await waitFor(`end of ${this.name}`, () => this.ended > before, UP_MS_MAX)
  }

  /** SIGTERM, and no further life. Gives the exit code. */
  async stop(): Promise<number | null> {
    this.stopping = true
    this.expected = 'stop'
    this.child?.kill('SIGTERM')
    const stuck = setTimeout(() => {
      this.defects.push(`${this.name} did not stop within ${STOPPED_MS_MAX} ms:\n${this.told()}`)
      this.child?.kill('SIGKILL')
    }, STOPPED_MS_MAX)
    await this.running
    clearTimeout(stuck)
    return this.lastCode
  }

  /** After `stop`: lives again, with other settings. */
  resume(env: Record<string, string>): void {
    this.command = { ...this.command, env }
    this.stopping = false
    this.running = this.keep()
  }

  /** Ends it at once, whatever state it is in. */
  async abandon(): Promise<void> {
    this.stopping = true
    this.expected = 'kill'
    this.child?.kill('SIGKILL')
    await this.running
  }

  async up(): Promise<void> {
    await waitFor(
      `start of ${this.name}`,
      () => this.isUp,
      UP_MS_MAX,
      () => this.told(),
    )
  }

  /** The last lines that it printed. */
  told(): string {
    return this.lines.slice(-SHOWN_LINES).join('\n')
  }

  /** A whole line of its standard error. */
  protected heard(_line: string): void {}

  private async keep(): Promise<void> {
    while (!this.stopping) {
      const { failpoints, seed } = this.nextLife()
      const child = Bun.spawn([process.execPath, ...this.command.words], {
        env: {
          ...this.command.env,
          HEADRACE_TEST_FAILPOINT: failpoints,
          HEADRACE_TEST_SEED: String(seed),
        },
        stdin: 'ignore',
        stdout: 'pipe',
        stderr: 'pipe',
      })
      this.child = child
      this.expected = 'nothing'
      this.lines = []
      const killed = () => child.kill('SIGKILL')
      process.once('exit', killed)
      const errors: string[] = []
      const told = Promise.all([
        this.listen(child.stdout),
        collect(child.stderr, errors, (line) => this.heard(line)),
      ])
      await child.exited
      this.isUp = false
      this.ended++
      await told
      process.off('exit', killed)
      this.judge(child, errors)
    }
  }

  private async listen(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder()
    for await (const chunk of stream) {
      const lines = decoder.decode(chunk, { stream: true }).split('\n')
      this.lines.push(...lines)
      if (!this.isUp && lines.some((line) => line.includes(this.command.upLine))) this.isUp = true
      if (this.lines.length > 10 * SHOWN_LINES) this.lines.splice(0, this.lines.length - SHOWN_LINES)
    }
  }

  private judge(child: Bun.Subprocess, errors: string[]): void {
    this.lastCode = child.exitCode
    const failpoint = errors.findLast((line) => line.startsWith('failpoint '))?.slice('failpoint '.length)
    if (child.signalCode === 'SIGKILL' && (failpoint !== undefined || this.expected === 'kill')) {
      const death = (failpoint as Failpoint | undefined) ?? 'outside'
      this.deaths.set(death, (this.deaths.get(death) ?? 0) + 1)
    } else if (this.expected !== 'stop') {
      const how = child.signalCode ?? `exit code ${child.exitCode}`
      this.defects.push(`${this.name} ended by itself with ${how}:\n${this.told()}\n${errors.join('\n')}`)
    }
  }
}
