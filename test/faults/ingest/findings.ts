/** What a proof finds wrong: kinds, with some examples of each. */
const NAMED_MAX = 5

export class Findings {
  private readonly wrong = new Map<string, string[]>()

  note(what: string, which: string): void {
    const list = this.wrong.get(what)
    if (list) list.push(which)
    else this.wrong.set(what, [which])
  }

  /** `what` is wrong unless it holds. */
  expect(holds: boolean, what: string, which: () => string): void {
    if (!holds) this.note(what, which())
  }

  /** One sentence for each kind. */
  sentences(): string[] {
    return [...this.wrong].map(
      ([what, which]) => `${what}: ${which.length}, such as ${which.slice(0, NAMED_MAX).join(', ')}`,
    )
  }
}
