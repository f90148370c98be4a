/** The proof itself: it must find each kind of wrong, and nothing where all is right. */

import { expect, test } from 'bun:test'
import {
  DUPLICATE,
  deadLetterCode,
  dropCode,
  encodeOutcomes,
  encodeRawHeader,
  type OutcomeRow,
  personUuid,
  type RawHeader,
  STORED,
  sourceHash,
} from '../../../src/event/index.ts'
import { plainEventRow } from '../../support/event-row.ts'
import { plainHeader } from '../../support/raw-header.ts'
import { checkReceipts, type Fence, type LaneEnd, type Receipt } from './check-receipts.ts'
import { checkRows, type OutputRows } from './check-rows.ts'
import { checkState, type StateRows, type StoredState } from './check-state.ts'
import { Findings } from './findings.ts'
import { Model, type RawRecord } from './model.ts'
import { TOKEN } from './story.ts'

const LOG = '018f4b2e-0000-7000-8000-00000000000a'
const IMPORTS = '018f4b2e-0000-7000-8000-00000000000b'
const TIME_MS = Date.UTC(2026, 0, 1)

const uuid = (n: number) => `018f4b2e-0000-7000-8000-${String(n).padStart(12, '0')}`

function raw(offset: number, json: string, more: Partial<RawHeader> = {}, logId = LOG): RawRecord {
  const header: RawHeader = plainHeader({
    token: TOKEN,
    distinctId: 'ada',
    event: 'page',
    uuid: uuid(offset),
    timestampMs: TIME_MS,
    ...more,
  })
  return {
    logId,
    topic: logId,
    partition: 0,
    offset,
    header: encodeRawHeader(header),
    value: Buffer.from(json),
  }
}

const identify = JSON.stringify({ properties: { $anon_distinct_id: 'anon' } })
const groupIdentify = JSON.stringify({
  properties: { $group_type: 'company', $group_key: 'acme', $group_set: { size: 3 } },
})

/** An id that learns something and joins another, a copy, one of no project, one unreadable, one in both lanes. */
function story() {
  const records = [
    raw(0, '{"$set":{"ada:k":1,"shared":"x"}}'),
    raw(1, '{"$set":{"ada:k":2}}'),
    raw(1, '{"$set":{"ada:k":2}}'),
    raw(3, '{}', { token: 'phc_nobody' }),
    raw(4, 'no json'),
    raw(5, identify, { event: '$identify' }),
    raw(6, groupIdentify, { event: '$groupidentify' }),
    raw(7, '{}', { uuid: uuid(99) }),
    raw(0, '{}', { uuid: uuid(99) }, IMPORTS),
  ].map((record, i) => ({ ...record, offset: i < 8 ? i : 0 }))
  const event = (offset: number, name: string, n: number, k: number, before: number | undefined) => ({
    row: {
      ...plainEventRow({
        uuid: uuid(n),
        event: name,
        distinct_id: 'ada',
        _log_id: LOG,
        _offset: offset,
      }),
      person_properties: JSON.stringify({ 'ada:k': k, shared: 'x' }),
    },
    prev: before === undefined ? undefined : { offset: before, sub: 0 },
  })
  const outcome = (offset: number, state: string, reason: string, first = '', logId = LOG): OutcomeRow => ({
    team_id: 1,
    uuid: uuid(offset),
    event: 'page',
    distinct_id: 'ada',
    state,
    reason,
    first_source: first,
    timestamp: TIME_MS,
    _log_id: logId,
    _partition: 0,
    _offset: offset,
    _sub: 0,
  })
  const rows: OutputRows = {
    events: [
      event(0, 'page', 0, 1, undefined),
      event(1, 'page', 1, 2, 0),
      event(5, '$identify', 5, 2, 1),
      event(6, '$groupidentify', 6, 2, 5),
      event(7, 'page', 99, 2, 6),
    ],
    outcomes: [
      outcome(2, 'duplicate', '', `${LOG}/0/1/0`),
      outcome(3, 'dropped', 'unknown_token'),
      outcome(4, 'dead_lettered', 'unreadable_event'),
      outcome(0, 'duplicate', '', `${LOG}/0/7/0`, IMPORTS),
    ],
    deadLetters: [
      {
        ...outcome(4, '', ''),
        reason: 'unreadable_event',
        detail: '',
        step: 'parse',
        raw_header: records[4]!.header,
        raw_value: records[4]!.value,
      },
    ],
  }
  const lanes: LaneEnd[] = [
    { logId: LOG, partition: 0, end: 8 },
    { logId: IMPORTS, partition: 0, end: 1 },
  ]
  const receipt = (from: number, to: number, codes: number[], stored: number[]): Receipt => ({
    log_id: LOG,
    partition: 0,
    from_offset: from,
    to_offset: to,
    outcomes: encodeOutcomes(codes.map((code) => ({ code, rows: code === STORED ? 1 : 0 }))),
    stored: stored.length,
    duplicate: 0,
    dropped: 0,
    dead_lettered: 0,
    stored_rows: stored.length,
    hash_sum: stored.reduce((sum, offset) => sum + sourceHash({ offset, sub: 0 }), 0),
    prev_offset: null,
  })
  const ends = [DUPLICATE, dropCode('unknown_token'), deadLetterCode('unreadable_event')]
  const receipts: Receipt[] = [
    { ...receipt(0, 2, [STORED, STORED], [0, 1]) },
    {
      ...receipt(2, 8, [...ends, STORED, STORED, STORED], [5, 6, 7]),
      ...{ duplicate: 1, dropped: 1, dead_lettered: 1, prev_offset: 1 },
    },
    { ...receipt(0, 1, [DUPLICATE], []), log_id: IMPORTS, duplicate: 1 },
  ]
  const fence = (logId: string, end: number, last: number | null): Fence => ({
    log_id: logId,
    partition: 0,
    next_offset: end,
    produced_through: end,
    last_offset: last,
  })
  const fences = [fence(LOG, 8, 7), fence(IMPORTS, 1, null)]
  const person = personUuid(1, 'ada')
  const properties = { 'ada:k': 2, shared: 'x', $creator_event_uuid: uuid(0) }
  const state: StoredState = {
    teamId: 1,
    persons: [{ uuid: person, properties, created_ms: TIME_MS, is_identified: true, ids: ['ada', 'anon'] }],
    groups: [{ group_type: 'company', group_key: 'acme', index: 0, properties: { size: 3 } }],
    pendingMoves: 0,
    lostIds: [],
  }
  const told: StateRows = {
    persons: [1, 2].map((version) => ({
      id: person,
      created_at: TIME_MS,
      team_id: 1,
      properties: JSON.stringify(version === 2 ? properties : {}),
      is_identified: 1,
      is_deleted: 0,
      version,
    })),
    overrides: [{ team_id: 1, distinct_id: 'anon', person_id: person, is_deleted: 0, version: 1 }],
    groups: [
      {
        group_type_index: 0,
        group_key: 'acme',
        created_at: TIME_MS,
        team_id: 1,
        group_properties: '{"size":3}',
        _version: 1,
      },
    ],
  }
  return { records, rows, lanes, receipts, fences, state, told }
}

type Told = ReturnType<typeof story>

function findings(spoil: (told: Told) => unknown): string[] {
  const told = story()
  spoil(told)
  const model = new Model()
  for (const record of told.records) model.take(record)
  const found = new Findings()
  checkRows(model, told.rows, found)
  checkReceipts(model, told.lanes, told.receipts, told.fences, found)
  checkState(model, told.state, told.told, found)
  return found.sentences().map((sentence) => sentence.slice(0, sentence.indexOf(': ', 4)))
}

test('nothing is wrong when all is there once, or again behind itself', () => {
  expect(findings(() => {})).toEqual([])
  expect(findings(({ rows }) => void rows.events.splice(3, 0, rows.events[1]!, rows.events[2]!))).toEqual([])
  expect(findings(({ rows }) => void rows.outcomes.push(rows.outcomes[0]!))).toEqual([])
  expect(findings(({ rows }) => void rows.deadLetters.push(rows.deadLetters[0]!))).toEqual([])
})

const WRONGS: [finding: string, spoil: (told: Told) => unknown][] = [
  ['I1: no end state', ({ rows }) => rows.events.pop()],
  ['I1: no end state', ({ rows }) => rows.outcomes.shift()],
  ['I1: a gap in the chain', ({ rows }) => rows.events.splice(1, 1)],
  ['I2: two end states', ({ rows }) => rows.outcomes.push({ ...rows.outcomes[1]!, _offset: 1 })],
  ['I2: two outcomes', ({ rows }) => rows.outcomes.push({ ...rows.outcomes[1]!, state: 'duplicate' })],
  ['I2: two dead letters', ({ rows }) => rows.deadLetters.push({ ...rows.deadLetters[0]!, reason: 'x' })],
  [
    'I4: another end state than it must have',
    ({ rows }) => Object.assign(rows.outcomes[1]!, { reason: 'x' }),
  ],
  ['stored as another event', ({ rows }) => Object.assign(rows.events[0]!.row, { uuid: uuid(98) })],
  [
    'I3: the person of an event is not as its id had made it',
    ({ rows }) => Object.assign(rows.events[1]!.row, { person_properties: '{"ada:k":1}' }),
  ],
  ['I3: out of order, and no copy', ({ rows }) => rows.events.push(rows.events.shift()!)],
  [
    'I2: stored from both lanes',
    ({ rows }) => {
      const [copy] = rows.events.slice(-1)
      rows.events.push({ row: { ...copy!.row, _log_id: IMPORTS, _offset: 0 }, prev: undefined })
    },
  ],
  ['I1: stored from neither lane', ({ rows }) => rows.events.pop()],
  [
    'a duplicate of something else',
    ({ rows }) => Object.assign(rows.outcomes[0]!, { first_source: `${LOG}/0/0/0` }),
  ],
  ['I4: a dead letter is missing, or is none', ({ rows }) => rows.deadLetters.pop()],
  [
    'a dead letter of another reason or other bytes',
    ({ rows }) => Object.assign(rows.deadLetters[0]!, { raw_value: Buffer.from('x') }),
  ],
  ['from nowhere', ({ rows }) => rows.outcomes.push({ ...rows.outcomes[1]!, _offset: 77 })],
  ['I4: receipts do not reach the end of the log', ({ receipts }) => receipts.splice(1, 1)],
  ['I4: receipts with a hole or an overlap', ({ receipts }) => receipts.shift()],
  ['I4: receipts with a hole or an overlap', ({ receipts }) => receipts.unshift(receipts[0]!)],
  [
    'a receipt names another event before it',
    ({ receipts }) => Object.assign(receipts[1]!, { prev_offset: 0 }),
  ],
  [
    'a receipt of another length',
    ({ receipts }) => Object.assign(receipts[2]!, { outcomes: encodeOutcomes([]) }),
  ],
  [
    'I4: a receipt for what is not in the log',
    ({ receipts }) => Object.assign(receipts[2]!, { to_offset: 2 }),
  ],
  [
    'I4: a receipt tells another end state',
    ({ receipts }) => Object.assign(receipts[2]!, { outcomes: encodeOutcomes([{ code: STORED, rows: 1 }]) }),
  ],
  ['I4: the sums of a receipt', ({ receipts }) => receipts[0]!.stored++],
  ['I4: the sums of a receipt', ({ receipts }) => receipts[0]!.stored_rows++],
  ['I4: the hash sum of a receipt', ({ receipts }) => receipts[0]!.hash_sum++],
  ['a fence is not at the end of the log', ({ fences }) => fences[0]!.next_offset--],
  ['a fence is not at the end of the log', ({ fences }) => fences[0]!.produced_through--],
  ['a fence names another last event', ({ fences }) => Object.assign(fences[0]!, { last_offset: 6 })],
  ['fences of no lane', ({ fences }) => fences.push({ ...fences[0]!, partition: 9 })],
  ['an id leads to two persons', ({ state }) => state.persons.push({ ...state.persons[0]! })],
  ['another number of persons', ({ state }) => state.persons.push({ ...state.persons[0]!, ids: [] })],
  ['an id has no person', ({ state }) => Object.assign(state.persons[0]!, { ids: ['anon'] })],
  ['a person with other ids', ({ state }) => state.persons[0]!.ids.pop()],
  [
    'a person with other properties',
    ({ state }) => Object.assign(state.persons[0]!.properties, { 'ada:k': 1 }),
  ],
  [
    'a person with a word that was not the last',
    ({ state }) => Object.assign(state.persons[0]!.properties, { shared: 'y' }),
  ],
  [
    'a person of an unknown creator',
    ({ state }) => Object.assign(state.persons[0]!.properties, { $creator_event_uuid: uuid(77) }),
  ],
  ['a person of another time', ({ state }) => state.persons[0]!.created_ms++],
  ['a person identified or not', ({ state }) => Object.assign(state.persons[0]!, { is_identified: false })],
  ['a person named after nobody of it', ({ state }) => Object.assign(state.persons[0]!, { uuid: uuid(5) })],
  ['another number of groups', ({ state }) => state.groups.pop()],
  [
    'a group with other properties',
    ({ state }) => Object.assign(state.groups[0]!, { properties: { size: 4 } }),
  ],
  ['topic persons tells of another person', ({ told }) => told.persons.pop()],
  ['topic person_distinct_ids tells of another person', ({ told }) => told.overrides.pop()],
  ['topic persons keeps one alive', ({ told }) => told.persons.push({ ...told.persons[0]!, id: uuid(6) })],
  [
    'topic groups tells of another group',
    ({ told }) => Object.assign(told.groups[0]!, { group_properties: '{}' }),
  ],
  ['ids are still to be moved', ({ state }) => state.pendingMoves++],
  ['an id leads to nobody alive', ({ state }) => state.lostIds.push('bob')],
]

test.each(WRONGS)('finds: %s', (finding, spoil) => {
  expect(findings(spoil)).toContain(finding)
})

test('a copy whose original was lost with its topic has no one order with the events of its id', () => {
  const [before, original] = [raw(1, '{"$set":{"ada:k":2}}'), raw(2, '{}', { uuid: uuid(99) })]
  const copy = raw(0, '{}', { uuid: uuid(99) }, IMPORTS)
  const looseOf = (lost: RawRecord[]) => {
    const model = new Model()
    for (const record of lost) model.lose(record)
    for (const record of [before, copy]) model.take(record)
    return [...model.eitherLane.values()].flat().map(({ record }) => record)
  }
  expect(looseOf([original])).toEqual([copy])
  expect(looseOf([{ ...original, topic: copy.topic }])).toEqual([])
  expect(looseOf([])).toEqual([])
})
