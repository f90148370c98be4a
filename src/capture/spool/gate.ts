/**
 * Lets one group at a time through, and can be shut for a moment: then nothing is on its way to the log or to the
 * spool, and what comes waits in memory. States: open ⇄ shut, each with or without a group inside. A shut gate opens
 * by itself when its time is over, whether the group inside has left by then or not.
 */
import { Signal } from '../../platform/index.ts'

export class Gate {
  isShut = false
  private inside = false
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly changed = new Signal()
  private readonly never = new AbortController().signal

  /** Goes in when it is open. False, and not inside, while it is shut. */
  enter(): boolean {
    if (this.isShut) return false
    this.inside = true
    return true
  }

  /**
   * Goes in as soon as it is open: seen open and gone in are one moment, so that whoever shuts it next waits. False when
   * it was shut for `ms`.
   */
  async pass(ms = Number.POSITIVE_INFINITY): Promise<boolean> {
    const untilMs = performance.now() + ms
    while (!this.enter()) {
      const leftMs = untilMs - performance.now()
      if (leftMs <= 0) return false
      await this.changed.wait(this.never, leftMs)
    }
    return true
  }

  leave(): void {
    this.inside = false
    if (this.isShut) this.changed.notify()
  }

  /**
   * Resolves when nobody is inside any more, or when the gate was opened again before that: `isShut` tells. It stays
   * shut for `forMs` at most; shutting it anew sets the time anew.
   */
  async shut(forMs = Number.POSITIVE_INFINITY): Promise<void> {
    clearTimeout(this.timer)
    this.timer = forMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(() => this.open(), forMs)
    this.isShut = true
    while (this.isShut && this.inside) await this.changed.wait(this.never)
  }

  open(): void {
    clearTimeout(this.timer)
    this.isShut = false
    this.changed.notify()
  }
}
