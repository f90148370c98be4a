import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { type ClaimRequest, Claims } from './claims.ts'
import { DedupMemory } from './dedup-memory.ts'
import { classifyDedup } from './failures.ts'
import { LostOffsets } from './lost-offsets.ts'

const LOG = '11111111-1111-4111-8111-111111111111'
const OTHER_LOG = '22222222-2222-4222-8222-222222222222'
const UUID = '018f4b2e-0000-7000-8000-000000000001'
const HOUR = 3_600_000

let folder: string
let claims: Claims

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'headrace-claims-'))
  claims = Claims.open(join(folder, '0.sqlite'), HOUR)
})

afterEach(() => {
  claims.close()
  rmSync(folder, { recursive: true })
})

function request(offset: number, changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    teamId: 1,
    uuid: UUID,
    event: 'e',
    distinctId: 'd',
    logId: LOG,
    offset,
    appendedMs: 1_000 + offset,
    replayOf: undefined,
    ...changes,
  }
}

const first = { kind: 'first', holder: undefined, uuidReused: false } as const
const duplicateOf = (offset: number, logId = LOG) =>
  ({ kind: 'duplicate', holder: { logId, offset }, uuidReused: false }) as const

describe('I2: who holds the claim', () => {
  test('the first copy wins, in one batch and over batches', () => {
    expect(claims.judge([request(5), request(6)])).toEqual([first, duplicateOf(5)])
    claims.store([request(5)], LOG, 7)
    expect(claims.judge([request(9), request(10, { logId: OTHER_LOG })])).toEqual([
      duplicateOf(5),
      duplicateOf(5),
    ])
  })

  test('its own record is a replay, not a duplicate', () => {
    claims.store([request(5)], LOG, 6)
    expect(claims.judge([request(5)])).toEqual([first])
  })

  test('judging changes nothing', () => {
    claims.judge([request(5)])
    expect(claims.judge([request(6)])).toEqual([first])
    expect(claims.count()).toBe(0)
  })

  test.each([
    ['another project', { teamId: 2 }],
    ['another event name', { event: 'f' }],
    ['another distinct_id', { distinctId: 'x' }],
  ])('the same uuid for %s is another event, and told', (_, changes) => {
    claims.store([request(5)], LOG, 6)
    expect(claims.judge([request(6, changes)])).toEqual([{ ...first, uuidReused: true }])
    expect(claims.judge([request(5), request(6, changes)])[1]).toEqual({ ...first, uuidReused: true })
  })

  test('judged again on a replay, it is told of the same records as the first time', () => {
    const batch = [request(5), request(6, { event: 'f' })]
    const verdicts = claims.judge(batch)
    expect(verdicts.map(({ uuidReused }) => uuidReused)).toEqual([false, true])
    claims.store(batch, LOG, 7)
    expect(claims.judge(batch)).toEqual(verdicts)
  })

  test('a dead letter that comes back takes the claim over', () => {
    claims.store([request(5)], LOG, 6)
    const back = request(50, { replayOf: { logId: LOG, partition: 0, offset: 5, sub: 0 } })
    expect(claims.judge([back])).toEqual([first])
    claims.store([back], LOG, 51)
    expect(claims.judge([request(60), back])).toEqual([duplicateOf(50), first])
    expect(claims.judge([request(61, { replayOf: back.replayOf })])).toEqual([duplicateOf(50)])
  })

  test('outside the window it is a new event', () => {
    claims.store([request(5)], LOG, 6)
    expect(claims.judge([request(6, { appendedMs: 1_005 + HOUR })])).toEqual([duplicateOf(5)])
    const late = request(7, { appendedMs: 1_006 + HOUR })
    expect(claims.judge([late, request(8, { appendedMs: 1_007 + HOUR })])).toEqual([first, duplicateOf(7)])
    claims.store([late], LOG, 8)
    expect(claims.judge([request(9, { appendedMs: 1_008 + HOUR })])).toEqual([duplicateOf(7)])
  })
})

describe('completeness', () => {
  test('is kept with the claims, per log, and never goes back', () => {
    expect(claims.completeTo(LOG)).toBe(0)
    claims.store([request(5)], LOG, 6)
    claims.store([], OTHER_LOG, 3)
    claims.store([request(5)], LOG, 4)
    claims.close()
    claims = Claims.open(join(folder, '0.sqlite'), HOUR)
    expect([claims.completeTo(LOG), claims.completeTo(OTHER_LOG)]).toEqual([6, 3])
    expect(claims.judge([request(9)])).toEqual([duplicateOf(5)])
  })

  test('two owners of a file, one of them a zombie, agree', () => {
    const heir = Claims.open(join(folder, '0.sqlite'), HOUR)
    heir.store([request(5)], LOG, 6)
    claims.store([request(5)], LOG, 6)
    expect(heir.judge([request(7)])).toEqual([duplicateOf(5)])
    expect(claims.judge([request(7)])).toEqual([duplicateOf(5)])
    heir.close()
  })
})

describe('I6: bounds', () => {
  test('expired claims are swept while new ones come', () => {
    const ids = (n: number) => `018f4b2e-0000-7000-8000-${n.toString(16).padStart(12, '0')}`
    for (let batch = 0; batch < 40; batch++) {
      const requests = Array.from({ length: 100 }, (_, i) => {
        const offset = batch * 100 + i
        return request(offset, { uuid: ids(offset), appendedMs: batch * (HOUR / 10) })
      })
      claims.reached(batch * (HOUR / 10))
      claims.store(requests, LOG, (batch + 1) * 100)
    }
    // The window holds 11 batches; the sweep goes round at twice the rate of growth.
    expect(claims.count()).toBeLessThan(2_500)
    expect(claims.count()).toBeGreaterThanOrEqual(1_100)
  })
})

test('agrees with a map over any sequence of batches', () => {
  const event = fc.record({ id: fc.nat(8), name: fc.constantFrom('a', 'b'), size: fc.boolean() })
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const db = Claims.open(':memory:', HOUR)
      const model = new Map<string, number>()
      let pending: ClaimRequest[] = []
      const flush = (end: number) => {
        const verdicts = db.judge(pending)
        const accepted = pending.filter((_, i) => verdicts[i]!.kind === 'first')
        pending.forEach((claim, i) => {
          const key = `${claim.uuid}/${claim.event}`
          const holder = model.get(key)
          expect(verdicts[i]!.holder?.offset).toBe(holder)
          if (holder === undefined) model.set(key, claim.offset)
        })
        db.store(accepted, LOG, end)
        pending = []
      }
      events.forEach(({ id, name, size }, offset) => {
        pending.push(request(offset, { uuid: `018f4b2e-0000-7000-8000-00000000000${id}`, event: name }))
        if (size) flush(offset + 1)
      })
      flush(events.length)
      db.close()
    }),
    { numRuns: 50 },
  )
})

describe('a failing index', () => {
  const file = () => join(folder, 'damaged.sqlite')

  test('a file that is no index is put aside, and the next one starts empty', () => {
    writeFileSync(file(), 'x'.repeat(10_000))
    expect(() => Claims.open(file(), HOUR)).toThrow(
      expect.objectContaining({ code: 'HR_DEDUP_DAMAGED', class: 'retriable' }),
    )
    const anew = Claims.open(file(), HOUR)
    expect(anew.completeTo(LOG)).toBe(0)
    anew.close()
    expect(readFileSync(`${file()}.damaged`, 'utf8')).toStartWith('xxx')
  })

  test('damage found at work is retriable, and the file is put aside when it is closed', () => {
    const index = Claims.open(file(), HOUR)
    for (let batch = 0; batch < 30; batch++) {
      const requests = Array.from({ length: 200 }, (_, i) =>
        request(batch * 200 + i, { uuid: crypto.randomUUID() }),
      )
      index.store(requests, LOG, (batch + 1) * 200)
    }
    index.close()
    const bytes = readFileSync(file())
    bytes.fill(0x7f, 40_960)
    writeFileSync(file(), bytes)
    const damaged = Claims.open(file(), HOUR)
    const wanted = Array.from({ length: 50 }, (_, i) => request(i, { uuid: crypto.randomUUID() }))
    expect(() => damaged.judge(wanted)).toThrow(expect.objectContaining({ code: 'HR_DEDUP_DAMAGED' }))
    damaged.close()
    const anew = Claims.open(file(), HOUR)
    expect(anew.completeTo(LOG)).toBe(0)
    anew.close()
  })

  test.each([
    ['SQLITE_FULL', 'HR_DEDUP_UNAVAILABLE'],
    ['SQLITE_IOERR_WRITE', 'HR_DEDUP_UNAVAILABLE'],
    ['SQLITE_BUSY', 'HR_DEDUP_UNAVAILABLE'],
    ['SQLITE_CORRUPT_VTAB', 'HR_DEDUP_DAMAGED'],
    ['SQLITE_MISUSE', 'SQLITE_MISUSE'],
  ])('%s is %s', (code, expected) => {
    expect((classifyDedup('x', Object.assign(new Error('said'), { code })) as { code: string }).code).toBe(
      expected,
    )
  })
})

describe('I2: an event that was given up', () => {
  const lost = new LostOffsets([
    { logId: LOG, from: 5, to: 6 },
    { logId: OTHER_LOG, from: 3, to: null },
  ])

  test.each<[string, Partial<ClaimRequest> & { offset: number }, boolean]>([
    ['in the range', { offset: 5 }, true],
    ['before it', { offset: 4 }, false],
    ['behind it', { offset: 6 }, false],
    [
      'at the same offset of another log',
      { offset: 5, logId: '33333333-3333-4333-8333-333333333333' },
      false,
    ],
    ['of a log that is gone', { offset: 300, logId: OTHER_LOG }, true],
    ['of a log that is gone, decided in time', { offset: 2, logId: OTHER_LOG }, false],
  ])('%s: does its claim keep a copy out?', (_, { offset, ...of }, isStored) => {
    claims.lost = lost
    claims.store([request(offset, of)], of.logId ?? LOG, offset + 1)
    expect(claims.judge([request(900)])[0]!.kind).toBe(isStored ? 'first' : 'duplicate')
  })

  test('the copy that is stored in its place holds the claim', () => {
    claims.store([request(5)], LOG, 6)
    claims.lost = lost
    expect(claims.judge([request(900), request(901)])).toEqual([first, duplicateOf(900)])
    claims.store([request(900)], LOG, 902)
    expect(claims.judge([request(950)])).toEqual([duplicateOf(900)])
  })
})

describe('one uuid with everything: each event is judged by its own claim, and all but the first are told', () => {
  test.each([
    // So many that it does not end in time where each look-up meets all of them.
    ['in memory', 30_000, undefined],
    ['in runs', 6_000, new DedupMemory(2 ** 24, 1_024)],
  ])('%s', (_, count, memory) => {
    const BATCH = 1_000
    const index = Claims.open(join(folder, '1.sqlite'), HOUR, memory ? { memory } : {})
    const events = Array.from({ length: count }, (_, i) => request(i, { event: `e${i}`, appendedMs: 1_000 }))
    for (let from = 0; from < count; from += BATCH) {
      const batch = events.slice(from, from + BATCH)
      const verdicts = index.judge(batch)
      expect(verdicts.filter(({ kind }) => kind === 'first')).toHaveLength(BATCH)
      expect(verdicts.filter(({ uuidReused }) => !uuidReused)).toHaveLength(from === 0 ? 1 : 0)
      index.store(batch, LOG, from + BATCH)
    }
    const copies = events.map((event) => ({ ...event, offset: count + event.offset }))
    expect(index.judge(copies).map(({ holder }) => holder?.offset)).toEqual(
      events.map(({ offset }) => offset),
    )
    index.close()
  })
})
