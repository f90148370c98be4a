import { describe, expect, test } from 'bun:test'
import { DUPLICATE, deadLetterCode, dropCode, STORED } from '../../event/index.ts'
import { cookieless, factsAt, identify, judged, NOON, STATELESS, visitOf } from './cookieless.fixture.ts'
import { judge } from './judge.ts'
import { judgeAgain, noteIds, readNote } from './note.ts'
import { findIds, NO_STATES } from './visitors.ts'

const events = [
  cookieless({ $ip: '1.1.1.1' }),
  identify('alice', { $ip: '1.1.1.1' }),
  cookieless({ $ip: '1.1.1.1' }, { distinctId: 'alice' }),
  cookieless({ $ip: '2.2.2.2' }),
  cookieless({ $ip: '1.1.1.1' }),
]

/** Offsets 100, 110, … */
function live() {
  const { ids } = findIds(
    events.map((event) => visitOf(event)),
    NO_STATES,
  )
  return {
    stored: events.map((event, i) => ({ event: judged(event).event, ids: ids[i]! })),
    note: noteIds(
      ids.map((one, i) => ({ offset: 100 + 10 * i, ids: one })),
      100,
    ),
  }
}

describe('a replay', () => {
  test('gives every stored event the ids that it had, without salts, clock and settings', () => {
    const { stored, note } = live()
    // As it comes back from Postgres.
    const ids = readNote(JSON.parse(JSON.stringify(note)), 100)
    const again = events.map((event, i) => judgeAgain(event, ids.get(100 + 10 * i), STORED))
    expect(again).toEqual(stored.map((value) => ({ kind: 'pass', value })))
  })

  test('of stateless events, too', () => {
    const fresh = { ...cookieless(), project: STATELESS }
    const value = judged(fresh, STATELESS)
    const noted = readNote(noteIds([{ offset: 5, ids: value.ids! }], 5), 5)
    expect(judgeAgain(fresh, noted.get(5), STORED)).toEqual({ kind: 'pass', value })
  })

  test.each([
    ['no host', cookieless({ $host: undefined }), 'cookieless_missing_host'],
    ['a closed day', cookieless({}, { timestampMs: 0 }), 'cookieless_timestamp_out_of_range'],
    ['an alias', cookieless({}, { event: '$create_alias' }), 'cookieless_unsupported_event'],
  ] as const)('drops again, with the same warning: %s', (_rule, event, reason) => {
    const first = judge(event, factsAt(NOON))
    expect(judgeAgain(event, undefined, dropCode(reason))).toEqual(first as never)
  })

  test.each([
    ['a dead letter', deadLetterCode('event_too_large')],
    ['a duplicate', DUPLICATE],
  ])('of %s brings nothing personal to the steps behind', (_rule, code) => {
    const again = judgeAgain(cookieless({ $ip: '1.2.3.4' }), undefined, code)
    expect(JSON.stringify(again)).not.toMatch(/1\.2\.3\.4|Test User Agent/)
  })

  test('of an event whose ids are lost speaks of no person', () => {
    const outcome = judgeAgain(cookieless({ $ip: '1.2.3.4' }), undefined, STORED)
    expect(outcome).toMatchObject({ kind: 'pass', value: { event: { personProcessing: 'forcedOff' } } })
    expect(JSON.stringify(outcome)).not.toMatch(/1\.2\.3\.4|Test User Agent/)
  })

  test('of an event that is not cookieless changes nothing', () => {
    const event = cookieless({ $cookieless_mode: undefined, $ip: '1.2.3.4' }, { cookieless: false })
    expect(judgeAgain(event, undefined, STORED)).toEqual({ kind: 'pass', value: { event } })
  })
})

test('events with the same ids share an entry', () => {
  const { note } = live()
  expect(note.map(({ at }) => at)).toEqual([[0, 10, 20], [30], [40]])
})
