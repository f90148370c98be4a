/** A table is blocked for as long as anybody is. */
import { expect, test } from 'bun:test'
import { Blocked } from './blocked.ts'

type Step = [who: string, sentence: string | undefined]

test.each<[rule: string, steps: Step[], told: (string | undefined)[], now: string | undefined]>([
  [
    'one that waits and goes on is told once each',
    [
      ['insert', 'a'],
      ['insert', 'b'],
      ['insert', undefined],
    ],
    ['a', undefined],
    undefined,
  ],
  [
    'one that goes on does not clear another',
    [
      ['insert', 'a'],
      ['events/3', undefined],
    ],
    ['a'],
    'a',
  ],
  [
    'the last one that goes on clears',
    [
      ['insert', 'a'],
      ['events/3', 'b'],
      ['insert', undefined],
      ['events/3', undefined],
    ],
    ['a', undefined],
    undefined,
  ],
  [
    'the others are shown when the first goes on',
    [
      ['insert', 'a'],
      ['events/3', 'b'],
      ['insert', undefined],
    ],
    ['a'],
    'b',
  ],
])('%s', (_, steps, told, now) => {
  const changes: (string | undefined)[] = []
  const blocked = new Blocked((sentence) => changes.push(sentence))
  for (const [who, sentence] of steps) blocked.set(who, sentence)
  expect(changes).toEqual(told)
  expect(blocked.sentence).toBe(now)
})
