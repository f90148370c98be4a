/** What must be in ClickHouse after the SDKs have sent: each event once, each person once, with its groups. */
import { expect } from 'bun:test'
import { waitFor } from '../../support/wait-for.ts'
import { differences, type SentEvent } from './wire.ts'

const STATE_ROWS_MS_MAX = 15_000

export type Query = <T extends Record<string, unknown>>(sql: string) => Promise<T[]>

/** Differences that a failed expectation shows at most. */
const SHOWN_MAX = 10

export type Sent = {
  /** The events are named `<name> event`, and `<name> before identify` once per user. */
  name: string
  events: number
  users: number
  /**
   * The SDK keeps no order: it sends batches side by side, and what it knows of a group under an id of the group's own.
   * Then an event may come before what says of its user and its group; in the end all is known.
   */
  unordered?: boolean
}

/** Waits until the scenario's events of all are queryable; the assertions then say exactly what is there. */
export function untilStored(query: Query, sent: readonly Sent[], withinMs: number): Promise<void> {
  const count = sent.reduce((sum, { events }) => sum + events, 0)
  const names = sent.map(({ name }) => `'${name} event'`).join(', ')
  return untilCount(query, count, withinMs, `event IN (${names})`)
}

/** Waits until as many events are queryable as were sent. */
export async function untilCount(
  query: Query,
  count: number,
  withinMs: number,
  filter = 'true',
): Promise<void> {
  let stored = 0
  const all = async () => {
    const [row] = await query<{ n: number }>(`SELECT count() AS n FROM events WHERE ${filter}`)
    stored = Number(row!.n)
    return stored >= count
  }
  await waitFor(`${count} events in the warehouse`, all, withinMs, () => `${stored} are stored`)
}

/** Every event that the SDKs took is stored once under its own uuid and name, and nothing else is. */
export async function expectAllOnce(query: Query, sent: readonly SentEvent[]): Promise<void> {
  const rows = await query<{ uuid: string; event: string; distinctId: string; index: string }>(
    `SELECT toString(uuid) AS uuid, event, distinct_id AS distinctId, JSONExtractRaw(properties, 'index') AS index FROM events`,
  )
  const stored = rows.map(({ index, ...row }) => (index === '' ? row : { ...row, index: Number(index) }))
  expectSame(sent, stored)
}

export function expectSame(expected: readonly SentEvent[], found: readonly SentEvent[]): void {
  const { missing, extra } = differences(expected, found)
  expect({
    expected: expected.length,
    missing: missing.slice(0, SHOWN_MAX),
    extra: extra.slice(0, SHOWN_MAX),
  }).toEqual({ expected: found.length, missing: [], extra: [] })
}

/** The scenario that all drivers run: users that were anonymous first, with a plan, of companies with a size. */
export async function expectExactlyOnce(query: Query, sent: Sent): Promise<void> {
  const { name, events, users, unordered = false } = sent
  const [rows] = await query<Record<string, number>>(`
    SELECT count() AS rows, uniqExact(uuid) AS uuids, uniqExact(person_id) AS persons,
           countIf(NOT startsWith(\`$group_0\`, 'company-')) AS without_group,
           countIf(group0_properties = '' OR JSONExtractInt(group0_properties, 'size') != toInt64(splitByChar('-', \`$group_0\`)[2])) AS without_size,
           countIf(JSONExtractString(person_properties, 'plan') != 'pro') AS without_plan
    FROM events WHERE event = '${name} event'`)
  const early = unordered ? { without_size: 0, without_plan: 0 } : {}
  expect<object>({ name, ...rows, ...early }).toEqual({
    name,
    rows: events,
    uuids: events,
    persons: users,
    without_group: 0,
    without_size: 0,
    without_plan: 0,
  })

  // What each user did before it was identified belongs to the same person as what it did after.
  await expectSoon(
    query,
    `
    WITH overrides AS (
      SELECT team_id, distinct_id, argMax(person_id, version) AS person_id FROM person_distinct_id_overrides GROUP BY team_id, distinct_id)
    SELECT uniqExact(if(o.distinct_id = '', e.person_id, o.person_id)) AS persons, countIf(event = '${name} before identify') AS before
    FROM events e LEFT JOIN overrides o ON o.team_id = e.team_id AND o.distinct_id = e.distinct_id
    WHERE event IN ('${name} event', '${name} before identify')`,
    { persons: users, before: users },
    name,
  )

  await expectSoon(
    query,
    `SELECT uniqExact(id) AS users FROM person FINAL
    WHERE JSONExtractString(properties, 'plan') = 'pro'
      AND id IN (SELECT person_id FROM events WHERE event = '${name} event')`,
    { users },
    name,
  )
}

/** Rows of persons and of their ids have inserts of their own, which may come a moment after those of the events. */
async function expectSoon(
  query: Query,
  sql: string,
  expected: Record<string, number>,
  name: string,
): Promise<void> {
  let row: Record<string, number> = {}
  const holds = async () => {
    row = (await query<Record<string, number>>(sql))[0]!
    return Object.entries(expected).every(([key, value]) => Number(row[key]) === value)
  }
  await waitFor('state rows', holds, STATE_ROWS_MS_MAX).catch(() => {})
  expect<object>({ name, ...row }).toEqual({ name, ...expected })
}

/** p50 and p99 of the time from capture to queryable, ms. */
export async function freshness(query: Query): Promise<{ p50: number; p99: number }> {
  const [row] = await query<{ p50: number; p99: number }>(
    `SELECT round(quantile(0.5)(d)) AS p50, round(quantile(0.99)(d)) AS p99
     FROM (SELECT dateDiff('millisecond', created_at, inserted_at) AS d FROM events WHERE event LIKE '% event')`,
  )
  return { p50: Number(row!.p50), p99: Number(row!.p99) }
}
