/**
 * The rule book of persons, merges and groups, on a real Postgres: every row of the ingestion spec §24 that speaks of
 * them, under its number, and every rule of ours that is another than upstream's, with the reason. What is stored, what
 * is sent and what the event shows are looked at together. (Rows 13, 14, 29–31 and 74 are decided before this step; rows
 * 3 and 50–52 are about an older behaviour and about tables that this product has not.)
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { Sql } from '../../catalog/index.ts'
import { personUuid } from '../../event/index.ts'
import {
  alias,
  dangerous,
  decodeRows,
  event,
  type Given,
  identify,
  Lane,
  livingPersons,
  MINUTE_MS,
  mappingVersion,
  store,
  T0,
  wipe,
} from './identity.fixture.ts'
import {
  createIdentity,
  DEFAULT_OPTIONS,
  type Identity,
  type IdentityEvent,
  type IdentityOptions,
  type Json,
  type JsonObject,
  type Stamp,
} from './index.ts'
import { TEST_STATES, type TestState } from './state.fixture.ts'

type Living = {
  ids: string[]
  named?: string
  props?: JsonObject
  identified?: boolean
  createdAtMs?: number
}

type Rule = {
  rule: string
  given?: Given[]
  /** One batch. */
  when: IdentityEvent[]
  /** All who live afterwards, by their first id. */
  persons: Living[]
  warnings?: string[]
  /** Whose person rows are sent, by the id that names the person; and which ids send an override row. */
  sent?: string[]
  overrides?: string[]
  /** What the last event shows. */
  shows?: Partial<Stamp> & { props?: JsonObject }
  options?: Partial<IdentityOptions>
}

const personless = (id: string, more: Partial<IdentityEvent> = {}) =>
  event(id, { personProcessing: 'off', ...more })
const set = (id: string, properties: JsonObject, more: Partial<IdentityEvent> = {}) =>
  event(id, { name: '$set', set: properties, ...more })
const group = (type: string, key: string, properties: JsonObject, more: Partial<IdentityEvent> = {}) =>
  event('A', { name: '$groupidentify', groupIdentify: { type, key, set: properties }, ...more })
/** Below the lock time-out of the batch. */
const WAITS_WITHIN_MS = 4_000
const later = { nowMs: T0 + 5 }

const CREATION: Rule[] = [
  {
    rule: '2: a personless event of nobody has a made-up person and leaves nothing',
    when: [personless('A', { set: { x: 100 } })],
    persons: [],
    sent: [],
    shows: { personUuid: personUuid(1, 'A'), props: {}, personCreatedAtMs: 5_000, mode: 'propertyless' },
  },
  {
    rule: '3b: ids without a person are attached with an override, had they been personless or not',
    given: [{ ids: ['A'] }, { ids: ['B'] }],
    when: [personless('new2'), identify('A', 'old2'), identify('B', 'new2')],
    persons: [{ ids: ['A', 'old2'] }, { ids: ['B', 'new2'] }],
    overrides: ['new2', 'old2'],
  },
  {
    rule: '4: more than a minute after its birth a person takes personless events over; nothing they set is applied',
    given: [{ ids: ['old', 'new'], props: { a: 1 } }],
    when: [personless('new', { timestampMs: T0 + 5 * MINUTE_MS, set: { x: 1 } })],
    persons: [{ ids: ['new', 'old'], props: { a: 1 } }],
    sent: [],
    shows: {
      personUuid: personUuid(1, 'old'),
      personCreatedAtMs: T0,
      props: {},
      mode: 'force_upgrade',
      groups: [],
    },
  },
  {
    rule: '5: but not in a project that processes no persons',
    given: [{ ids: ['old', 'new'] }],
    when: [personless('new', { timestampMs: T0 + 5 * MINUTE_MS })],
    persons: [{ ids: ['new', 'old'] }],
    options: { optedOut: true },
    shows: { personUuid: personUuid(1, 'old'), personCreatedAtMs: T0, props: {}, mode: 'propertyless' },
  },
  {
    rule: '6: up to that minute it is propertyless under the real person',
    given: [{ ids: ['old', 'new'] }],
    when: [personless('new', { timestampMs: T0 + MINUTE_MS })],
    persons: [{ ids: ['new', 'old'] }],
    shows: { personUuid: personUuid(1, 'old'), personCreatedAtMs: T0, props: {}, mode: 'propertyless' },
  },
  {
    rule: '7: NUL becomes U+FFFD; a new person has no override and is not identified',
    when: [event('A', { set: { null_byte: '\0' }, timestampMs: T0 - 7 })],
    persons: [{ ids: ['A'], props: { null_byte: '\ufffd' }, identified: false, createdAtMs: T0 - 7 }],
    overrides: [],
    shows: { personUuid: personUuid(1, 'A'), mode: 'full' },
  },
  {
    rule: '8: an event that sets nothing shows the properties, a personless one does not',
    given: [{ ids: ['A'], props: { c: 420 } }],
    when: [event('A'), personless('A')],
    persons: [{ ids: ['A'] }],
    sent: [],
    shows: { props: {} },
  },
  {
    rule: '11: `$set` wins over `$set_once` at birth',
    when: [event('A', { setOnce: { a: 1, b: 2 }, set: { b: 3, c: 4 } })],
    persons: [{ ids: ['A'], props: { a: 1, b: 3, c: 4 } }],
    sent: ['A'],
  },
  {
    rule: '12: forced off: an identify does nothing and looks nobody up',
    given: [{ ids: ['A'], createdAtMs: T0 - MINUTE_MS * 9 }],
    when: [identify('A', 'B', { personProcessing: 'forcedOff' })],
    persons: [{ ids: ['A'], identified: false }],
    sent: [],
    shows: { personUuid: personUuid(1, 'A'), personCreatedAtMs: 5_000, props: {}, mode: 'propertyless' },
  },
]

const has = (props: JsonObject): Given[] => [{ ids: ['A'], props }]
const holds = (props: JsonObject): Living[] => [{ ids: ['A'], props }]

const UPDATES: Rule[] = [
  {
    rule: '15: set, set_once and hostile keys',
    given: has({ b: 3, c: 4, toString: {} } as JsonObject),
    when: [
      event('A', { setOnce: { c: 3, e: 4 }, set: { b: 4, toString: 1, null_byte: '\0' } as JsonObject }),
    ],
    persons: holds({ b: 4, c: 4, e: 4, toString: 1, null_byte: '\ufffd' } as JsonObject),
    sent: ['A'],
  },
  ...['$$heatmap', '$exception'].map((name) => ({
    rule: `16: ${name} changes nobody`,
    given: has({ a: 1 }),
    when: [event('A', { name, set: { a: 2 }, setOnce: { b: 1 }, unset: ['a'] })],
    persons: holds({ a: 1 }),
    sent: [],
    shows: { props: { a: 2 } },
  })),
  {
    rule: '17: a suppressed key with a new value is shown, not stored',
    given: has({ $current_url: 123 }),
    when: [event('A', { set: { $current_url: 4 } })],
    persons: holds({ $current_url: 123 }),
    sent: [],
    shows: { props: { $current_url: 4 } },
  },
  {
    rule: '18: `$set` stores it',
    given: has({ $current_url: 123 }),
    when: [set('A', { $current_url: 4 })],
    persons: holds({ $current_url: 4 }),
    sent: ['A'],
  },
  {
    rule: '19: a new key is stored',
    given: has({}),
    when: [event('A', { set: { $initial_current_url: 4 } })],
    persons: holds({ $initial_current_url: 4 }),
  },
  {
    rule: '20: an $initial_ key is not suppressed',
    given: has({ $initial_current_url: 123 }),
    when: [event('A', { set: { $initial_current_url: 4 } })],
    persons: holds({ $initial_current_url: 4 }),
  },
  {
    rule: '21: what is so already is no change',
    given: has({ b: 3, c: 4 }),
    when: [event('A', { setOnce: { c: 3 }, set: { b: 3 } })],
    persons: holds({ b: 3, c: 4 }),
    sent: [],
  },
  {
    rule: '22: one key that is not suppressed releases all',
    given: has({ $browser: 'x' }),
    when: [event('A', { set: { $browser: 'y', plan: 'pro' } })],
    persons: holds({ $browser: 'y', plan: 'pro' }),
  },
  {
    rule: '23: unset removes what is there and ignores the rest',
    given: has({ k: 1 }),
    when: [event('A', { unset: ['k', 'missing'] })],
    persons: holds({}),
    sent: ['A'],
  },
  {
    rule: '24: unset wins over set of the same event',
    given: has({ k: 1 }),
    when: [event('A', { set: { k: 2 }, unset: ['k'] })],
    persons: holds({}),
  },
  {
    rule: '25: set_once fills a null',
    given: has({ utm_source: null }),
    when: [event('A', { setOnce: { utm_source: 'g' } })],
    persons: holds({ utm_source: 'g' }),
  },
  {
    rule: '26: 500 events of one person are one row; each shows its own value',
    given: has({}),
    when: Array.from({ length: 500 }, (_, n) => event('A', { set: { n } })),
    persons: holds({ n: 499 }),
    sent: ['A'],
    shows: { props: { n: 499 } },
  },
  {
    rule: '27: what a merge brought is there for the `$set` of the same event',
    given: [
      { ids: ['A'], props: { a: 1 } },
      { ids: ['B'], props: { b: 3 } },
    ],
    when: [identify('A', 'B', { set: { b: 4 } })],
    persons: [{ ids: ['A', 'B'], props: { a: 1, b: 4 } }],
    shows: { props: { a: 1, b: 4 } },
  },
  {
    rule: '28: identified twice in a batch is one row',
    given: [{ ids: ['A', 'B'] }],
    when: [identify('A', 'B'), identify('A', 'B')],
    persons: [{ ids: ['A', 'B'], identified: true }],
    sent: ['A'],
  },
]

const MERGES: Rule[] = [
  {
    rule: '32, 33: an identify without another id, or with its own, joins and identifies nobody',
    when: [event('A', { name: '$identify' }), identify('A', 'A')],
    persons: [{ ids: ['A'], identified: false }],
  },
  {
    rule: '34: neither exists: one person, named after the event, identified',
    when: [identify('new', 'old', { set: { foo: 'bar' }, timestampMs: T0 - 3 })],
    persons: [
      { ids: ['new', 'old'], named: 'new', props: { foo: 'bar' }, identified: true, createdAtMs: T0 - 3 },
    ],
    overrides: ['old'],
  },
  {
    rule: '35, 53: both ids on one person: it becomes identified, and no id moves',
    given: [{ ids: ['new', 'old'] }],
    when: [identify('new', 'old')],
    persons: [{ ids: ['new', 'old'], identified: true }],
    overrides: [],
  },
  {
    rule: '36: only P(new): old goes to it',
    given: [{ ids: ['new'] }],
    when: [identify('new', 'old')],
    persons: [{ ids: ['new', 'old'], named: 'new', identified: true }],
    overrides: ['old'],
  },
  {
    rule: '37: only P(old), not identified: new goes to it, and it keeps its name',
    given: [{ ids: ['old'] }],
    when: [identify('new', 'old')],
    persons: [{ ids: ['new', 'old'], named: 'old', identified: true }],
    overrides: ['new'],
  },
  {
    rule: '38, 54: an anonymous person merges into an identified one; the older birth stays',
    given: [
      { ids: ['old'], createdAtMs: T0 - 9 },
      { ids: ['new'], identified: true },
    ],
    when: [identify('new', 'old', later)],
    persons: [{ ids: ['new', 'old'], named: 'new', identified: true, createdAtMs: T0 - 9 }],
    sent: ['new', 'old'],
    overrides: ['old'],
  },
  {
    rule: '39: an identified source is not merged; the target counts as identified, and what the event sets is applied',
    given: [{ ids: ['old'], identified: true }, { ids: ['new'] }],
    when: [identify('new', 'old', { set: { a: 1 } })],
    persons: [
      { ids: ['new'], props: { a: 1 }, identified: true },
      { ids: ['old'], props: {} },
    ],
    warnings: ['cannot_merge_already_identified'],
    overrides: [],
  },
  {
    rule: '40: both identified: refused',
    given: [
      { ids: ['old'], identified: true },
      { ids: ['new'], identified: true },
    ],
    when: [identify('new', 'old')],
    persons: [{ ids: ['new'] }, { ids: ['old'] }],
    warnings: ['cannot_merge_already_identified'],
    sent: [],
  },
  {
    rule: '41: the target wins, then the event',
    given: [
      { ids: ['old'], props: { a: 1, b: 2 } },
      { ids: ['new'], props: { b: 3, c: 4, d: 5 } },
    ],
    when: [identify('new', 'old', { set: { d: 6, e: 7 }, setOnce: { a: 8, f: 9 } })],
    persons: [{ ids: ['new', 'old'], props: { a: 1, b: 3, c: 4, d: 6, e: 7, f: 9 } }],
  },
  {
    rule: '43: an alias is an identify under another name',
    given: [{ ids: ['S'], props: { s: 1 } }, { ids: ['T'] }],
    when: [alias('T', 'S')],
    persons: [{ ids: ['S', 'T'], named: 'T', props: { s: 1 }, identified: true }],
  },
  {
    rule: '44: a dangerous merge joins two identified persons',
    given: [
      { ids: ['S'], identified: true, createdAtMs: T0 - 4 },
      { ids: ['T'], identified: true },
    ],
    when: [dangerous('T', 'S', later)],
    persons: [{ ids: ['S', 'T'], named: 'T', createdAtMs: T0 - 4 }],
    sent: ['S', 'T'],
  },
  ...['   ', '"undefined"', '[object Object]', "'guest'", 'None', 'EMAIL', '0'].map((bad) => ({
    rule: `45, 46: ${JSON.stringify(bad)} joins nobody, on either side`,
    when: [identify(bad, 'A'), identify('B', bad)],
    persons: [{ ids: [bad] }, { ids: ['B'] }].sort((a, b) => (a.ids[0]! < b.ids[0]! ? -1 : 1)),
    warnings: ['cannot_merge_with_illegal_distinct_id', 'cannot_merge_with_illegal_distinct_id'],
  })),
  ...([null, '', undefined] as (Json | undefined)[]).map((bad) => ({
    rule: `46: ${JSON.stringify(bad)} as the other id of an identify`,
    when: [event('A', bad === undefined ? {} : { merge: { kind: 'identify', otherId: bad } })],
    persons: [{ ids: ['A'], identified: false }],
    warnings: bad === undefined ? [] : ['cannot_merge_with_illegal_distinct_id'],
  })),
  {
    rule: '47: an alias for null asks for nothing; the id `false` joins nobody',
    when: [event('A', { merge: { kind: 'alias', otherId: null } }), alias('false', 'B')],
    persons: [{ ids: ['A'] }, { ids: ['false'] }],
    warnings: ['cannot_merge_with_illegal_distinct_id'],
  },
  {
    rule: '48: only NaN as it is spelled is a placeholder, Anonymous in any case',
    when: [identify('A', 'nan'), identify('B', 'NAN'), identify('C', 'NaN'), identify('D', 'AnonyMous')],
    persons: [{ ids: ['A', 'nan'] }, { ids: ['B', 'NAN'] }, { ids: ['C'] }, { ids: ['D'] }],
    warnings: ['cannot_merge_with_illegal_distinct_id', 'cannot_merge_with_illegal_distinct_id'],
  },
  {
    rule: '49: alias twice, in reverse, before any person, and of two persons: one person each time',
    given: [{ ids: ['e'] }, { ids: ['f'] }],
    when: [alias('a', 'b'), alias('a', 'b'), alias('b', 'a'), alias('e', 'f')],
    persons: [{ ids: ['a', 'b'] }, { ids: ['e', 'f'] }],
  },
  {
    rule: '65: many into one: the identified one is refused; the target wins over the earlier over the later',
    given: [
      { ids: ['A'], props: { x: 'A' }, version: 3 },
      { ids: ['a'], props: { x: 'a', y: 'a' } },
      { ids: ['b'], props: { z: 'b' }, identified: true },
      { ids: ['c'], props: { x: 'c', y: 'c', z: 'c' }, version: T0 + 99 },
    ],
    when: [identify('A', 'a'), identify('A', 'b'), identify('A', 'c')],
    persons: [{ ids: ['A', 'a', 'c'], props: { x: 'A', y: 'a', z: 'c' } }, { ids: ['b'] }],
    warnings: ['cannot_merge_already_identified'],
  },
  {
    rule: '66: the same when nobody knows the target: it joins the first, then the rest',
    given: [
      { ids: ['a'], props: { x: 'a' } },
      { ids: ['c'], props: { x: 'c', z: 'c' } },
    ],
    when: [identify('A', 'a'), identify('A', 'c')],
    persons: [{ ids: ['A', 'a', 'c'], named: 'a', props: { x: 'a', z: 'c' }, identified: true }],
  },
]

/** Where upstream loses or mixes up data. The reason stands in the name. */
const OURS: Rule[] = [
  {
    rule: '67, W-15: an unseen id is not attached to an identified person: anyone could take a known person over',
    given: [{ ids: ['known'], identified: true }],
    when: [identify('new', 'known')],
    persons: [{ ids: ['known'] }, { ids: ['new'], named: 'new', identified: true }],
    warnings: ['cannot_attach_to_identified'],
  },
  {
    rule: 'W-15: a dangerous merge may: it says so',
    given: [{ ids: ['known'], identified: true }],
    when: [dangerous('new', 'known')],
    persons: [{ ids: ['known', 'new'], named: 'known' }],
  },
  {
    rule: 'W-26: an object or list that is equal is no change: upstream wrote it every time',
    given: has({ o: { a: [1, { b: 2 }], c: 3 } }),
    when: [set('A', { o: { c: 3, a: [1, { b: 2 }] } })],
    persons: holds({ o: { a: [1, { b: 2 }], c: 3 } }),
    sent: [],
  },
  {
    rule: 'W-27: what is only shown never gets stored by a neighbour',
    given: has({ $os: 'a' }),
    when: [event('A', { set: { $os: 'b' } }), set('A', { k: 1 })],
    persons: holds({ $os: 'a', k: 1 }),
    shows: { props: { $os: 'a', k: 1 } },
  },
  {
    rule: 'W-27: which keys those are is the project’s choice',
    given: has({ $os: 'a', score: 1 }),
    when: [event('A', { set: { score: 2 } }), event('A', { set: { $os: 'b' } })],
    options: { suppressed: new Set(['score']) },
    persons: holds({ $os: 'b', score: 1 }),
  },
  {
    rule: 'W-5, 69: an alias to an id that is mapped already does not take a `$set` of its batch back',
    given: [{ ids: ['A', 'B'], props: { k: 'old' } }],
    when: [identify('A', 'B', { set: { k: 'new' } }), alias('A', 'B')],
    persons: [{ ids: ['A', 'B'], props: { k: 'new' } }],
    shows: { props: { k: 'new' } },
  },
  {
    rule: 'W-30: a merge sees what its batch did to the source before',
    given: [{ ids: ['A'] }, { ids: ['s'], props: { n: 1 } }],
    when: [event('s', { set: { n: 2, m: 1 } }), identify('A', 's')],
    persons: [{ ids: ['A', 's'], props: { n: 2, m: 1 } }],
  },
  {
    rule: 'W-22: an id that cannot describe itself is a placeholder, not the end of the partition',
    when: [event('A', { merge: { kind: 'identify', otherId: { toString: null } as unknown as Json } })],
    persons: [{ ids: ['A'] }],
    warnings: ['cannot_merge_with_illegal_distinct_id'],
  },
]

const GROUPS: Rule[] = [
  {
    rule: '70: types are numbered as they come',
    when: [event('A', { groups: { company: 'c1', org: 'o1' } })],
    persons: [{ ids: ['A'] }],
    shows: {
      groups: [
        { index: 0, key: 'c1', propertiesJson: '{}', createdAtMs: 0 },
        { index: 1, key: 'o1', propertiesJson: '{}', createdAtMs: 0 },
      ],
    },
  },
  {
    rule: '71, W-42: the sixth type is left out, with a warning (upstream says nothing)',
    when: [event('A', { groups: { a: '1', b: '2', c: '3', d: '4', e: '5', f: '6' } })],
    persons: [{ ids: ['A'] }],
    warnings: ['too_many_group_types'],
  },
  {
    rule: '75: of a key that is too long the group is left out, with a warning; the event stays (upstream drops it)',
    when: [event('A', { groups: { a: 'x'.repeat(401) } })],
    persons: [{ ids: ['A'] }],
    warnings: ['group_key_too_long'],
    shows: { groups: [] },
  },
]

const byFirstId = (a: { ids: string[] }, b: { ids: string[] }) => (a.ids[0]! < b.ids[0]! ? -1 : 1)
const own = ({ $creator_event_uuid: _, ...props }: JsonObject) => props

for (const { name, start } of TEST_STATES) {
  describe(name, () => {
    let state: TestState
    let sql: Sql
    let lane: Lane
    let identity: Identity
    let options: IdentityOptions = DEFAULT_OPTIONS
    let attempts = 0

    beforeAll(async () => {
      state = await start()
      sql = state.sql
      identity = createIdentity(sql, { attempt: () => attempts++ })
    }, 60_000)
    afterAll(() => state?.stop(), 60_000)
    beforeEach(async () => {
      options = DEFAULT_OPTIONS
      attempts = 0
      await wipe(sql)
      lane = await Lane.open(sql)
      lane.context = { optionsOf: () => options }
    })

    const nameOf = (uuid: string, ids: Iterable<string>) =>
      [...ids].find((id) => personUuid(1, id) === uuid) ?? uuid

    async function follows(rule: Rule): Promise<void> {
      await store(sql, rule.given ?? [])
      options = { ...DEFAULT_OPTIONS, ...rule.options }
      const before = new Map((await livingPersons(sql)).map((person) => [person.uuid, person.version]))
      const { stamps, stateRows } = await lane.commit(identity, rule.when)

      const living = (await livingPersons(sql)).map((person) => ({ ...person, ids: [...person.ids].sort() }))
      const shape = living.sort(byFirstId).map((person, i) => ({
        ids: person.ids,
        ...(rule.persons[i]?.named && { named: nameOf(person.uuid, person.ids) }),
        ...(rule.persons[i]?.props && { props: own(person.properties) }),
        ...(rule.persons[i]?.identified !== undefined && { identified: person.is_identified }),
        ...(rule.persons[i]?.createdAtMs !== undefined && { createdAtMs: person.created_ms }),
      }))
      expect(shape).toEqual(rule.persons as typeof shape)
      expect(stamps.flatMap((stamp) => stamp.warnings.map((warning) => warning.type))).toEqual(
        (rule.warnings ?? []) as never,
      )

      const rows = decodeRows(stateRows)
      const ids = new Set([
        ...rule.when.map((e) => e.distinctId),
        ...(rule.given ?? []).flatMap((g) => g.ids),
      ])
      for (const row of rows.persons) expect(row.version).toBeGreaterThan(before.get(row.id) ?? 0)
      if (rule.sent) expect(rows.persons.map((row) => nameOf(row.id, ids)).sort()).toEqual(rule.sent)
      if (rule.overrides) expect(rows.overrides.map((row) => row.distinct_id).sort()).toEqual(rule.overrides)
      if (rule.shows) {
        const { props, ...rest } = rule.shows
        const last = stamps.at(-1)!
        expect(last).toMatchObject(rest)
        if (props) expect(own(JSON.parse(last.personPropertiesJson))).toEqual(props)
      }
    }

    for (const [chapter, rules] of Object.entries({ CREATION, UPDATES, MERGES, OURS, GROUPS })) {
      describe(chapter.toLowerCase(), () => {
        test.each(rules.map((rule) => [rule.rule, rule] as const))('%s', (_, rule) => follows(rule))
      })
    }

    test('1: the same id in two teams is two persons', async () => {
      const { stamps } = await lane.commit(identity, [event('A'), event('A', { teamId: 2 })])
      expect(stamps.map((stamp) => stamp.personUuid)).toEqual([personUuid(1, 'A'), personUuid(2, 'A')])
      expect(await livingPersons(sql, 2)).toHaveLength(1)
    })

    /** Commits `batch`; while it waits for what `others` has done but not committed, others commit. */
    async function overtaken(batch: IdentityEvent[], others: (held: Sql) => Promise<unknown>) {
      const held = await sql.reserve()
      try {
        await held`BEGIN`
        await others(held)
        const committed = lane.commit(identity, batch)
        await waitFor(
          'batch that waits',
          async () => {
            const rows = await sql`
              SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                AND query LIKE '%apply_batch%'`
            return rows.length > 0
          },
          WAITS_WITHIN_MS,
        )
        await held`COMMIT`
        const result = await committed
        expect(attempts).toBeGreaterThan(1)
        return result
      } finally {
        held.release()
      }
    }

    test('9: a person that another creates meanwhile is taken, not doubled', async () => {
      const { stateRows } = await overtaken([event('A')], (held) => store(held, [{ ids: ['A'] }]))
      expect(await livingPersons(sql)).toMatchObject([{ ids: ['A'], version: 1 }])
      expect(stateRows.persons).toEqual([])
    })

    test('10, W-29: what it sets is decided over the properties that are there then', async () => {
      const late = event('A', { setOnce: { c: 3, e: 4 }, set: { b: 4 } })
      await overtaken([late], (held) => store(held, [{ ids: ['A'], props: { b: 3, c: 4 } }]))
      expect(await livingPersons(sql)).toMatchObject([{ ids: ['A'], properties: { b: 4, c: 4, e: 4 } }])
    })

    test('42: P(new) appears while it is attached to P(old): decided again, merged', async () => {
      await store(sql, [{ ids: ['old'], props: { o: 1 } }])
      await overtaken([identify('new', 'old')], (held) => store(held, [{ ids: ['new'], props: { n: 1 } }]))
      expect(await livingPersons(sql)).toMatchObject([
        { uuid: personUuid(1, 'new'), ids: ['new', 'old'], is_identified: true, properties: { n: 1, o: 1 } },
      ])
    })

    test('W-14: neither exists, and another creates one meanwhile: the second id is linked all the same', async () => {
      await overtaken([identify('new', 'old')], (held) => store(held, [{ ids: ['new'] }]))
      expect(await livingPersons(sql)).toMatchObject([{ ids: ['new', 'old'], is_identified: true }])
    })

    test('W-36: the target is merged away meanwhile: the merge goes to who lives, none is lost', async () => {
      await store(sql, [
        { ids: ['T'], props: { t: 1 } },
        { ids: ['S'], props: { s: 1 } },
        { ids: ['U'], props: { u: 1 } },
      ])
      await overtaken([identify('T', 'S')], async (held) => {
        const other = await Lane.open(held, 7)
        await other.commit(createIdentity(held), [identify('U', 'T')])
      })
      expect(await livingPersons(sql)).toMatchObject([
        { uuid: personUuid(1, 'U'), ids: ['S', 'T', 'U'], properties: { s: 1, t: 1, u: 1 } },
      ])
    })

    test('W-1, W-12, W-13, 61: a merge is whole when it is committed: properties, birth, versions, ids, tombstone', async () => {
      await store(sql, [
        { ids: ['old'], props: { only: 'here' }, createdAtMs: T0 - 8, version: T0 + 50 },
        { ids: ['new'] },
      ])
      const { stateRows } = await lane.commit(identity, [identify('new', 'old')])
      const [survivor] = await livingPersons(sql)
      expect(survivor).toMatchObject({ properties: { only: 'here' }, created_ms: T0 - 8, version: T0 + 51 })
      const rows = decodeRows(stateRows).persons
      expect(rows.map((row) => [row.is_deleted, row.version])).toEqual([
        [0, T0 + 51],
        [1, T0 + 51],
      ])
    })

    test('62: a batch that was applied is not applied again', async () => {
      const batch = [event('a', { set: { n: 1 } }), identify('u', 'a')]
      const position = lane.position(2)
      await lane.commit(identity, batch)
      const before = await livingPersons(sql)
      await expect(
        identity.commit(batch, position, () => {
          throw new Error('not reached')
        }),
      ).rejects.toThrow()
      await identity.restamp(batch)
      expect(await livingPersons(sql)).toEqual(before)
    })

    test('68, W-10, W-16: a deleted person that comes back is above its tombstone, with one row per uuid', async () => {
      await store(sql, [{ ids: ['A'], version: T0 + 1_000 }])
      await sql`UPDATE person SET deleted_at = now(), version = version + 1, properties = '{}'`
      const { stateRows } = await lane.commit(identity, [event('A', { set: { back: 1 } })])
      expect(decodeRows(stateRows).persons).toMatchObject([{ is_deleted: 0, version: T0 + 1_002 }])
      const rows = await sql`SELECT FROM person WHERE uuid = ${personUuid(1, 'A')}`
      expect(rows).toHaveLength(1)
    })

    test('W-11: a version rises also when the clock stands behind it', async () => {
      await store(sql, [{ ids: ['A'], version: T0 + 1_000 }])
      const { stateRows } = await lane.commit(identity, [set('A', { a: 1 }, { nowMs: T0 })])
      expect(decodeRows(stateRows).persons).toMatchObject([{ version: T0 + 1_001 }])
    })

    test('55–57, W-25: a merge of many ids is the pointer at once; no limit sends the event away (upstream’s does)', async () => {
      const ids = Array.from({ length: 130 }, (_, i) => `old-${i}`)
      await store(sql, [{ ids, props: { o: 1 } }, { ids: ['new'] }])
      const { stateRows } = await lane.commit(identity, [identify('new', 'old-0')])
      expect(decodeRows(stateRows).overrides).toEqual([])
      const { stamps } = await lane.commit(identity, [event('old-99')])
      expect(stamps[0]).toMatchObject({ personUuid: personUuid(1, 'new') })
      const [person] = await livingPersons(sql)
      expect(person!.ids).toHaveLength(131)
    })

    test('W-3: a person that would be too large loses what was new; its neighbour and its event stay', async () => {
      const big = 'x'.repeat(400_000)
      await store(sql, [{ ids: ['A'], props: { a: big } }])
      const { stamps } = await lane.commit(identity, [
        set('A', { z: big, email: 'e' }),
        set('B', { b: 1 }),
        set('A', { k: 2 }),
      ])
      const living = await livingPersons(sql)
      expect(living.find(({ ids }) => ids[0] === 'A')!.properties).toEqual({ a: big, email: 'e', k: 2 })
      expect(living.find(({ ids }) => ids[0] === 'B')!.properties).toMatchObject({ b: 1 })
      expect(stamps[0]!.warnings).toMatchObject([
        { type: 'person_properties_too_large', details: { keys: ['z'], bytesMax: 655_360 } },
      ])
    })

    test('W-3: one that was stored too large is cut in the order of names, protected keys last', async () => {
      const third = 'x'.repeat(300_000)
      await store(sql, [{ ids: ['A'], props: { a: third, b: third, email: third, name: 'n' } }])
      await lane.commit(identity, [set('A', { z: 1 })])
      const [person] = await livingPersons(sql)
      expect(Object.keys(person!.properties).sort()).toEqual(['email', 'name'])
    })

    test('72, 73, W-20: groups merge key by key by deep equality; a row for each change, its version rises', async () => {
      const sent = async (...events: IdentityEvent[]) =>
        decodeRows((await lane.commit(identity, events)).stateRows).groups
      const [first] = await sent(group('company', 'c1', { a: { x: 1 } }, { timestampMs: T0 - 4 }))
      expect(first).toMatchObject({ group_type_index: 0, group_key: 'c1', created_at: T0 - 4, _version: T0 })
      const [second] = await sent(group('company', 'c1', { a: { x: 1 }, b: 2 }))
      expect(JSON.parse(second!.group_properties)).toEqual({ a: { x: 1 }, b: 2 })
      expect(second!._version).toBe(T0 + 1)
      expect(await sent(group('company', 'c1', { a: { x: 1 } }))).toEqual([])
      // Two changes in one batch are one row.
      expect(await sent(group('company', 'c1', { n: 1 }), group('company', 'c1', { n: 2 }))).toHaveLength(1)
    })

    test('76, W-21: the same key of two types in a batch is two groups; events show them as of then', async () => {
      const { stamps, stateRows } = await lane.commit(identity, [
        group('company', 'k', { is: 'company' }),
        event('A', { groups: { company: 'k' } }),
        group('org', 'k', { is: 'org' }),
        group('company', 'k', { is: 'changed' }),
        event('A', { groups: { company: 'k', org: 'k' } }),
      ])
      expect(decodeRows(stateRows).groups).toHaveLength(2)
      expect(stamps[1]!.groups).toEqual([
        { index: 0, key: 'k', propertiesJson: '{"is":"company"}', createdAtMs: T0 },
      ])
      expect(stamps[4]!.groups.map((stamp) => stamp.propertiesJson)).toEqual([
        '{"is":"changed"}',
        '{"is":"org"}',
      ])
    })

    describe('W-28: by event time, where the project asks for it', () => {
      const at = (ms: number, more: Partial<IdentityEvent>) => event('A', { timestampMs: T0 + ms, ...more })
      const props = async (...batches: IdentityEvent[][]) => {
        options = { ...DEFAULT_OPTIONS, propertyOrder: 'eventTime' }
        for (const batch of batches) await lane.commit(identity, batch)
        const [person] = await livingPersons(sql)
        return own(person!.properties)
      }

      test('an older event that comes later changes nothing, also in a batch of its own', async () => {
        const [newer, older] = [at(20, { set: { k: 'new' } }), at(10, { set: { k: 'old', l: 1 } })]
        expect(await props([newer], [older])).toEqual({ k: 'new', l: 1 })
      })

      test('by arrival it does', async () => {
        await lane.commit(identity, [at(20, { set: { k: 'new' } })])
        await lane.commit(identity, [at(10, { set: { k: 'old' } })])
        expect((await livingPersons(sql))[0]!.properties).toMatchObject({ k: 'old' })
      })

      test('a value that a newer event confirms is as new as that event', async () => {
        const batches = [at(10, { set: { k: 1 } }), at(30, { set: { k: 1 } }), at(20, { set: { k: 2 } })]
        expect(await props(...batches.map((one) => [one]))).toEqual({ k: 1 })
      })

      test('what was removed does not come back from before', async () => {
        const batches = [at(10, { set: { k: 1 } }), at(30, { unset: ['k'] }), at(20, { set: { k: 2 } })]
        expect(await props(...batches.map((one) => [one]))).toEqual({})
      })

      test('of several `$set_once` the oldest stays', async () => {
        const batches = [at(20, { setOnce: { k: 'late' } }), at(10, { setOnce: { k: 'early' } })]
        expect(await props(...batches.map((one) => [one]))).toEqual({ k: 'early' })
      })

      test('a merge takes per key what is newer, whoever survives', async () => {
        const anonymous = event('anon', { timestampMs: T0 + 30, set: { k: 'anon', l: 'anon' } })
        const known = [at(20, { set: { k: 'A', l: 'A' } }), at(40, { set: { l: 'newest' } })]
        expect(await props(known, [anonymous], [identify('A', 'anon', { timestampMs: T0 + 50 })])).toEqual({
          k: 'anon',
          l: 'newest',
        })
      })

      test('back to arrival, the times are forgotten with the next change', async () => {
        await props([at(20, { set: { k: 1 } })])
        options = DEFAULT_OPTIONS
        await lane.commit(identity, [at(10, { set: { k: 2 } })])
        const [row] = await sql`SELECT properties ->> 'k' AS k, property_times FROM person`
        expect(row).toEqual({ k: '2', property_times: null })
      })
    })

    test('every id that moves sends an override, above the one before', async () => {
      await lane.commit(identity, [event('a'), identify('b', 'a'), event('c')])
      const before = (await mappingVersion(sql, 'a'))!
      const { stateRows } = await lane.commit(identity, [dangerous('c', 'b')])
      const rows = decodeRows(stateRows).overrides
      expect(rows.map((row) => [row.distinct_id, row.person_id]).sort()).toEqual([
        ['a', personUuid(1, 'c')],
        ['b', personUuid(1, 'c')],
      ])
      expect(await mappingVersion(sql, 'a')).toBeGreaterThan(before)
    })
  })
}
