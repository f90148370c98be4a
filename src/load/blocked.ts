/**
 * Why the rows of a table wait, by who is held up: its insert, the settling of an intent, the opening of a partition. One
 * of them that goes on says nothing of the others. In: a sentence, or undefined when it goes on. Pure.
 */
export class Blocked {
  private readonly sentences = new Map<string, string>()

  /** `changed` is told the oldest sentence when the first one comes, and undefined when the last one has gone. */
  constructor(private readonly changed: (sentence: string | undefined) => void) {}

  get sentence(): string | undefined {
    return this.sentences.values().next().value
  }

  set(who: string, sentence: string | undefined): void {
    const before = this.sentence
    if (sentence === undefined) this.sentences.delete(who)
    else this.sentences.set(who, sentence)
    const now = this.sentence
    if ((before === undefined) !== (now === undefined)) this.changed(now)
  }
}
