/**
 * Lets one group at a time through, and can be shut for a moment: then nothing is on its way to the log or to the
 * spool, and what comes waits in memory. States: open ⇄ shut, each with or without a group inside; `shut` resolves
 * when nobody is inside any more.
 */
import { Signal } from '../../platform/index.ts'

export class Gate {
  isShut = false
  private inside = false
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

  async shut(): Promise<void> {
    this.isShut = true
    while (this.inside) await this.changed.wait(this.never)
  }

  open(): void {
    this.isShut = false
    this.changed.notify()
  }
}
