/** A table is blocked for as long as anybody is. */
import { expect, test } from 'bun:test'
import { Blocked } from './blocked.ts'

/** A sentence begins with its code. */
type Step = [who: string, sentence: string | undefined]

test.each<[rule: string, steps: Step[], told: (string | undefined)[], now: string | undefined]>([
  [
    'one that waits, then for something else, and goes on is told once each',
    [
      ['insert', 'a'],
      ['insert', 'b'],
      ['insert', undefined],
    ],
    ['a', 'b', undefined],
    undefined,
  ],
  [
    'one that goes on waiting for the same is told once',
    [
      ['insert', 'a 1'],
      ['insert', 'a 2'],
    ],
    ['a 1'],
    'a 2',
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
    ['a', 'b', undefined],
    undefined,
  ],
  [
    'the others are shown when the first goes on',
    [
      ['insert', 'a'],
      ['events/3', 'b'],
      ['insert', undefined],
    ],
    ['a', 'b'],
    'b',
  ],
])('%s', (_, steps, told, now) => {
  const changes: (string | undefined)[] = []
  const blocked = new Blocked((sentence) => changes.push(sentence))
  for (const [who, sentence] of steps)
    blocked.set(who, sentence === undefined ? undefined : { code: sentence[0]!, sentence })
  expect(changes).toEqual(told)
  expect(blocked.sentence).toBe(now)
})
