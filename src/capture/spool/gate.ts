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

  async pass(): Promise<void> {
    while (this.isShut) await this.changed.wait(this.never)
  }

  enter(): void {
    this.inside = true
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
