/**
 * Captures the story into the raw topics, at a rate that breathes: rest comes now and then, long enough for ingest to
 * have nothing to do. It holds back while ingest is far behind, unless it is told not to.
 */
import type { Log, LogRecord, Producer } from '../../../src/log/index.ts'
import type { Story } from './story.ts'

const EVERY_MS = 25
const PRODUCE_DEADLINE_MS = 30_000
const WORK_MS_MAX = 4_000
const REST_MS_MAX = 900

export class Load {
  /** Records that the log has acknowledged. */
  acked = 0
  /** Whether it goes on however far ingest is behind. */
  ruthless = false
  private ending = false
  private readonly producer: Producer
  private readonly running: Promise<void>

  constructor(
    log: Log,
    private readonly story: Story,
    private readonly perSecond: number,
    private readonly isBehind: () => boolean,
    private readonly random: () => number,
  ) {
    this.producer = log.producer({ name: 'capture', deadlineMs: PRODUCE_DEADLINE_MS })
    this.running = this.run()
  }

  /** Beside the story. */
  async send(records: LogRecord[]): Promise<void> {
    await this.producer.send(records)
    this.acked += records.length
  }

  /** Resolves when nothing more comes. */
  async end(): Promise<void> {
    this.ending = true
    await this.running
    await this.producer.close()
  }

  private async run(): Promise<void> {
    let restAt = performance.now() + this.random() * WORK_MS_MAX
    while (!this.ending) {
      const from = performance.now()
      if (this.ruthless || !this.isBehind()) {
        const count = Math.ceil((this.perSecond * EVERY_MS) / 1000)
        await this.send(Array.from({ length: count }, () => this.story.next()))
      }
      if (performance.now() > restAt) {
        await Bun.sleep(this.random() * REST_MS_MAX)
        restAt = performance.now() + this.random() * WORK_MS_MAX
      }
      await Bun.sleep(Math.max(0, EVERY_MS - (performance.now() - from)))
    }
  }
}
