/** How far a long verb has come, on one line of a terminal; nothing at all elsewhere, so that logs and scripts stay clean. */
const WIDTH = 30
const EVERY_MS = 100

type Terminal = { isTTY?: boolean; write(text: string): unknown }

export class ProgressBar {
  private shownMs = Number.NEGATIVE_INFINITY
  private visible = false

  constructor(
    private readonly terminal: Terminal,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  /** `done` of `total` `what`. */
  show(done: number, total: number, what: string): void {
    const nowMs = this.clock()
    if (this.terminal.isTTY !== true || nowMs - this.shownMs < EVERY_MS) return
    this.shownMs = nowMs
    this.visible = true
    const part = total > 0 ? Math.min(done / total, 1) : 1
    const filled = Math.round(part * WIDTH)
    const bar = '█'.repeat(filled) + '░'.repeat(WIDTH - filled)
    const figures = `${done.toLocaleString('en')} of ${total.toLocaleString('en')} ${what}`
    this.terminal.write(`\r\x1b[K${bar} ${Math.floor(part * 100)} %  ${figures}`)
  }

  /** Gives the line back. */
  clear(): void {
    if (!this.visible) return
    this.visible = false
    this.terminal.write('\r\x1b[K')
  }
}
