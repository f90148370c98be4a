/** What was acknowledged or shown, to be compared with what a log holds later: all of it, once, at its position. */
import type { Log, StoredRecord } from '../log.ts'
import { TOPIC } from './log.fixture.ts'

export function textOf(record: StoredRecord): string {
  return Buffer.from(record.value).toString().replaceAll('.', '')
}

export class Truth {
  private readonly known = new Map<string, string>()
  readonly mistakes: string[] = []

  get size(): number {
    return this.known.size
  }

  copy(): Truth {
    const copy = new Truth()
    for (const [key, text] of this.known) copy.known.set(key, text)
    return copy
  }

  note(partition: number, offset: number, text: string): void {
    const key = `${partition}:${offset}`
    const before = this.known.get(key)
    if (before !== undefined && before !== text) this.mistakes.push(`${key}: ${before} and then ${text}`)
    this.known.set(key, text)
  }

  /** Reads everything, notes it as shown, and compares with what was known before. */
  async check(log: Log, partitions: number): Promise<void> {
    const known = new Map(this.known)
    const found = new Map<string, string>()
    const seen = new Set<string>()
    for (let p = 0; p < partitions; p++) {
      const { start, end } = await log.bounds(TOPIC.name, p)
      if (start !== 0) this.mistakes.push(`${p} begins with ${start}`)
      let next = 0
      for await (const batch of log.read(TOPIC.name, p, 0, end))
        for (const record of batch) {
          if (record.offset !== next++)
            this.mistakes.push(`${p}:${record.offset} comes instead of ${next - 1}`)
          const text = textOf(record)
          if (seen.has(text)) this.mistakes.push(`${text} is there twice`)
          seen.add(text)
          found.set(`${p}:${record.offset}`, text)
        }
    }
    for (const [key, text] of known)
      if (found.get(key) !== text) this.mistakes.push(`${key} was ${text} and is ${found.get(key)}`)
    for (const [key, text] of found) this.note(Number(key.split(':')[0]), Number(key.split(':')[1]), text)
  }
}
