import { describe, expect, test } from 'bun:test'
import { plainHeader } from '../../test/support/raw-header.ts'
import { DUPLICATE, dropCode, STORED } from '../event/index.ts'
import type { Decision, Slot } from './batch.ts'
import { batchCounts } from './batch-counts.ts'

const HOUR = 494_600
const DUP: Decision = { kind: 'duplicate', holder: { logId: '', offset: 0 } }
const DROP: Decision = { kind: 'drop', reason: 'event_too_old' }

function slot(sdk: string | undefined, changes: Partial<Slot> = {}, hour = HOUR): Slot {
  const appendedMs = hour * 3_600_000 + 1
  const told = { token: 't', distinctId: 'd', event: 'e', uuid: '', timestampMs: appendedMs }
  const header = sdk === undefined ? undefined : plainHeader({ ...told, sdk, nowMs: appendedMs })
  const record = { offset: 0, appendedMs, header: new Uint8Array(), value: new Uint8Array() }
  const rest = {
    sub: 0,
    more: [],
    decision: undefined,
    afterEffects: undefined,
    draft: undefined,
    visit: undefined,
    ids: undefined,
    warnings: [],
  }
  return { record, header, teamId: 1, ...rest, ...changes }
}

describe('what a batch came to', () => {
  const cases: [string, Slot[], ReturnType<typeof batchCounts>][] = [
    ['nothing', [], []],
    ['versions of one SDK', [slot('web/1'), slot('web/2'), slot('web/1')], [[HOUR, 1, 'web', STORED, 3]]],
    [
      'outcomes and projects that take turns',
      [
        slot('web/1'),
        slot('web/1', { decision: DUP }),
        slot('web/1'),
        slot('web/1', { decision: DROP, teamId: 2 }),
        slot('web/1', { decision: DUP }),
      ],
      [
        [HOUR, 1, 'web', STORED, 2],
        [HOUR, 1, 'web', DUPLICATE, 2],
        [HOUR, 2, 'web', dropCode('event_too_old'), 1],
      ],
    ],
    [
      'two hours',
      [slot('web/1'), slot('web/1', {}, HOUR + 1)],
      [
        [HOUR, 1, 'web', STORED, 1],
        [HOUR + 1, 1, 'web', STORED, 1],
      ],
    ],
    ['an unreadable header', [slot(undefined, { teamId: 0 })], [[HOUR, 0, '', STORED, 1]]],
    [
      'a name that no column would take',
      [slot(`a\0b${'x'.repeat(61)}\u{1f600}`)],
      [[HOUR, 1, `ab${'x'.repeat(61)}`, STORED, 1]],
    ],
  ]
  for (const [name, slots, expected] of cases) test(name, () => expect(batchCounts(slots)).toEqual(expected))

  test('a name of its own for each event: the first 50, and the others together', () => {
    const counts = batchCounts(Array.from({ length: 1_000 }, (_, i) => slot(`sdk-${i}/1`)))
    expect(counts).toHaveLength(51)
    expect(counts.at(-1)).toEqual([HOUR, 1, '(other)', STORED, 950])
  })
})
