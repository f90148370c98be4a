import { expect, test } from 'bun:test'
import { windowBeyondLog } from './window.ts'

const HOUR = 3_600_000

test.each<[string, number, (number | undefined)[], string | undefined]>([
  ['as long as the window', 168, [168, 168], undefined],
  ['longer', 168, [720, 168], undefined],
  ['without an end', 8_760, [undefined, undefined], undefined],
  [
    'shorter in one lane',
    168,
    [168, 167.5],
    'is 168 h, but raw_b keeps 167.5 h: an index that is built anew',
  ],
  ['shorter in both', 720, [168, 24], 'but raw_a keeps 168 h, raw_b keeps 24 h: an index'],
])('the log keeps its records %s', (_, windowHours, kept, said) => {
  const topics = kept.map((hours, i) => ({
    name: ['raw_a', 'raw_b'][i]!,
    retentionMs: hours === undefined ? undefined : hours * HOUR,
  }))
  const sentence = windowBeyondLog(windowHours, topics)
  if (said === undefined) expect(sentence).toBeUndefined()
  else expect(sentence).toContain(said)
})
