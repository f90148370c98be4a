/**
 * Why the rows of a table wait, by who is held up: its insert, the settling of an intent, the opening of a partition. One
 * of them that goes on says nothing of the others. In: a sentence with its error code, or undefined when it goes on. Pure.
 */
import type { Why } from './why.ts'

export class Blocked {
  private readonly reasons = new Map<string, Why>()

  /** `changed` is told the oldest sentence when the first one comes or it is of another kind, undefined when the last has gone. */
  constructor(private readonly changed: (sentence: string | undefined) => void) {}

  get sentence(): string | undefined {
    return this.oldest?.sentence
  }

  private get oldest(): Why | undefined {
    return this.reasons.values().next().value
  }

  set(who: string, why: Why | undefined): void {
    const before = this.oldest?.code
    if (why === undefined) this.reasons.delete(who)
    else this.reasons.set(who, why)
    if (before !== this.oldest?.code) this.changed(this.sentence)
  }
}
