/** What policies do with a submission: pure, by tables. */
import { describe, expect, test } from 'bun:test'
import type { ProjectPolicy, Restriction } from '../../catalog/index.ts'
import {
  boundDistinctId,
  type CaptureReport,
  parseReport,
  partitionOf,
  type RawHeader,
  viewOf,
} from '../../event/index.ts'
import { createLogger } from '../../observe/index.ts'
import type { Note } from '../errors.ts'
import { Trail } from '../request.ts'
import type { Submission } from '../submission.ts'
import { partitionKeyOf } from '../validate.ts'
import { type Allowance, applyRules } from './apply-rules.ts'
import { Door, ownAccount, Reports } from './index.ts'
import { Rates } from './rate.ts'
import { compileRules } from './rules.ts'

const LONG_ID = 'x'.repeat(300)
const uuid = (n: number) => `018f4b2e-0000-7000-8000-00000000000${n}`
const everything = (events: number): Allowance => ({ pass: events, quotaFrom: events })

function header(changes: Partial<RawHeader> = {}): RawHeader {
  return {
    token: 't',
    distinctId: 'd',
    event: 'e',
    uuid: uuid(1),
    timestampMs: 0,
    timeRule: 'client',
    clientTimeMs: undefined,
    nowMs: 0,
    sentAtMs: undefined,
    ip: '',
    userAgent: '',
    sdk: '',
    personProcessing: 'on',
    cookieless: false,
    disposition: 'event',
    requestId: '',
    replayOf: undefined,
    ...changes,
  }
}

function submissionOf(headers: RawHeader[], changes: Partial<Submission> = {}): Submission {
  return {
    sender: { path: '/batch', ip: '', userAgent: '', requestId: '', nowMs: 0 },
    headers,
    values: headers.map((_, i) => Buffer.from(String(i))),
    indexes: headers.map((_, i) => i),
    rejected: [],
    notes: [],
    historical: false,
    trail: new Trail(),
    ...changes,
  }
}

function ruled(policy: ProjectPolicy, headers: RawHeader[], allow = everything, historical = false) {
  return applyRules(compileRules(policy)!, submissionOf(headers, { historical }), allow)
}

describe('a policy that asks nothing costs nothing', () => {
  test.each([[undefined], [{}], [{ lane: 'main' as const }]])('%j', (policy) => {
    expect(compileRules(policy)).toBeUndefined()
  })
})

describe('a restriction holds', () => {
  const both = { distinct_ids: ['d', 'other'], events: ['e'] }
  const rows: [
    rule: string,
    filter: Omit<Restriction, 'action'>,
    event: Partial<RawHeader>,
    holds: boolean,
  ][] = [
    ['without a filter for all', {}, {}, true],
    ['by event', { events: ['x', 'e'] }, {}, true],
    ['not for another event', { events: ['x'] }, {}, false],
    ['by distinct_id', { distinct_ids: ['d'] }, {}, true],
    [
      'by a long distinct_id, which the header holds cut',
      { distinct_ids: [LONG_ID] },
      { distinctId: boundDistinctId(LONG_ID) },
      true,
    ],
    ['by uuid', { uuids: [uuid(1)] }, {}, true],
    ['not for another uuid', { uuids: [uuid(2)] }, {}, false],
    ['when all kinds match', { ...both, uuids: [uuid(1)] }, {}, true],
    ['not when one kind does not', both, { event: 'x' }, false],
    ['not for a name of an object', { events: ['e'] }, { event: 'constructor' }, false],
  ]
  test.each(rows)('%s', (_, filter, event, holds) => {
    const left = ruled({ restrictions: [{ action: 'drop', ...filter }] }, [header(event)])
    expect(left.rejected.map(({ reason }) => reason)).toEqual(holds ? ['restricted'] : [])
    expect(left.headers).toHaveLength(holds ? 0 : 1)
  })
})

describe('where an event goes', () => {
  const rows: [actions: Restriction['action'][], policy: ProjectPolicy, asked: boolean, end: unknown][] = [
    [['historical'], {}, false, ['event', 'on', true]],
    [['dead_letter'], {}, false, ['deadLetter', 'on', false]],
    [['historical', 'dead_letter'], {}, false, ['deadLetter', 'on', false]],
    [['dead_letter'], {}, true, ['deadLetter', 'on', true]],
    [['skip_person_processing', 'historical'], {}, false, ['event', 'forcedOff', true]],
    [['skip_person_processing', 'dead_letter', 'historical', 'drop'], {}, false, undefined],
    [['drop', 'dead_letter'], {}, false, undefined],
    [['skip_person_processing'], { lane: 'historical' }, false, ['event', 'forcedOff', true]],
    [['skip_person_processing'], {}, true, ['event', 'forcedOff', true]],
  ]
  test.each(rows)('%j %j, asked for the lane of imports: %j', (actions, policy, asked, end) => {
    const restrictions = actions.map((action) => ({ action }))
    const { headers, lanes } = ruled({ ...policy, restrictions }, [header()], everything, asked)
    const [one] = headers
    expect(one && [one.disposition, one.personProcessing, lanes![0]]).toEqual(end as never)
  })
})

test('no policy changes the partition of an event', () => {
  const restrictions = (['dead_letter', 'historical', 'skip_person_processing'] as const).map((action) => ({
    action,
  }))
  for (const personProcessing of ['on', 'off'] as const) {
    for (const event of ['e', '$identify']) {
      const before = header({ personProcessing, event, distinctId: 'somebody' })
      const partition = partitionOf(partitionKeyOf(before), 64)
      const [after] = ruled({ restrictions }, [{ ...before }]).headers
      expect(partitionOf(partitionKeyOf(after!), 64)).toBe(partition)
    }
  }
})

describe('quota and rate', () => {
  test('let the first ones in, and tell which reason kept out which of the others', () => {
    const headers = [1, 2, 3, 4, 5, 6].map((n) => header({ uuid: uuid(n), event: n === 2 ? 'dropped' : 'e' }))
    const left = ruled(
      { restrictions: [{ action: 'drop', events: ['dropped'] }], events_per_month: 9 },
      headers,
      (events) => {
        expect(events).toBe(5)
        return { pass: 2, quotaFrom: 4 }
      },
    )
    expect(left.headers.map((one) => one.uuid)).toEqual([uuid(1), uuid(3)])
    expect(left.values.map(String)).toEqual(['0', '2'])
    expect(left.indexes).toEqual([0, 2])
    expect(left.rejected.map(({ index, reason }) => [index, reason])).toEqual([
      [1, 'restricted'],
      [3, 'rate_limited'],
      [4, 'rate_limited'],
      [5, 'quota_exceeded'],
    ])
    expect([left.refusedByPolicy, left.quotaLimited]).toEqual([4, true])
  })

  test('a restriction alone is no quota, and what was invalid stays in its place', () => {
    const rules = compileRules({ restrictions: [{ action: 'drop' }] })!
    const invalid = { index: 1, field: 'uuid', reason: 'invalid_uuid', message: 'm' } as const
    const left = applyRules(
      rules,
      submissionOf([header(), header()], { indexes: [0, 2], rejected: [invalid] }),
      everything,
    )
    expect(left.rejected.map(({ index }) => index)).toEqual([0, 1, 2])
    expect([left.refusedByPolicy, left.quotaLimited]).toEqual([2, false])
  })
})

test('an event that is stored otherwise than it was sent is told, unless a policy refused it', async () => {
  const project = {
    teamId: 1,
    settings: { policy: { restrictions: [{ action: 'drop', events: ['unwanted'] }] } },
  }
  const told: CaptureReport[] = []
  const reports = new Reports({
    writer: {
      write: async (records) =>
        void told.push(...records.map(({ value }) => parseReport(Buffer.from(viewOf(value)).toString()))),
    },
    partitions: 1,
    clock: () => 1_000,
  })
  const projects = { known: () => project, find: async () => project }
  const door = new Door({ ...ownAccount(), projects, reports, logger: createLogger('capture', 'silent') })
  const note = (index: number): Note => ({
    index,
    field: 'distinct_id',
    reason: 'distinct_id_cut',
    message: 'cut',
  })
  const submission = submissionOf([header({ event: 'unwanted' }), header({ event: 'kept' })], {
    notes: [note(0), note(1)],
  })
  const admission = { token: 't', project }
  door.account(admission, submission, door.rule(admission, submission))
  await reports.close()
  expect(told.map(({ type, reason, count, sample }) => [type, reason, count, sample.event])).toEqual([
    ['events_rejected', 'restricted', 1, 'unwanted'],
    ['events_changed', 'distinct_id_cut', 1, 'kept'],
  ])
})

describe('a rate', () => {
  const rate = { perSecond: 10, burst: 20 }

  test('lets a burst in at once, and then as many as time gives', () => {
    const rates = new Rates()
    expect(rates.take(1, 50, rate, 0)).toBe(20)
    expect(rates.take(1, 50, rate, 0)).toBe(0)
    expect(rates.take(1, 50, rate, 150)).toBe(1)
    expect(rates.take(1, 50, rate, 200)).toBe(1)
    expect(rates.take(1, 50, rate, 1_200)).toBe(10)
    expect(rates.take(1, 50, rate, 1e9)).toBe(20)
  })

  test('is of one project, gives back what did not get in, and follows a change of the policy', () => {
    const rates = new Rates()
    rates.take(1, 20, rate, 0)
    expect(rates.take(2, 5, rate, 0)).toBe(5)
    rates.giveBack(1, 4)
    expect(rates.take(1, 50, rate, 0)).toBe(4)
    expect(rates.take(1, 500, { perSecond: 1_000, burst: 1_000 }, 100)).toBe(100)
  })
})
