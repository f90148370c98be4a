/** What must be in ClickHouse after the SDKs have sent: each event once, each person once, with its groups. */
import { expect } from 'bun:test'

export type Query = <T extends Record<string, unknown>>(sql: string) => Promise<T[]>

export type Sent = { name: 'node' | 'python' | 'browser'; events: number; users: number }

/** Waits until the events of all are queryable; the assertions then say exactly what is there. */
export async function untilStored(query: Query, sent: Sent[], deadlineMs: number): Promise<void> {
  const expected = sent.reduce((sum, { events }) => sum + events, 0)
  const names = sent.map(({ name }) => `'${name} event'`).join(', ')
  const until = performance.now() + deadlineMs
  for (;;) {
    const [row] = await query<{ n: number }>(`SELECT count() AS n FROM events WHERE event IN (${names})`)
    if (Number(row!.n) >= expected) return
    if (performance.now() > until)
      throw new Error(`${row!.n} of ${expected} events are stored after ${deadlineMs} ms`)
    await Bun.sleep(200)
  }
}

export async function expectExactlyOnce(query: Query, { name, events, users }: Sent): Promise<void> {
  const [rows] = await query<Record<string, number>>(`
    SELECT count() AS rows, uniqExact(uuid) AS uuids, uniqExact(person_id) AS persons,
           countIf(group0_properties = '' OR JSONExtractInt(group0_properties, 'size') != toInt64(splitByChar('-', \`$group_0\`)[2])) AS without_group,
           countIf(JSONExtractString(person_properties, 'plan') != 'pro') AS without_plan
    FROM events WHERE event = '${name} event'`)
  expect<object>({ name, ...rows }).toEqual({
    name,
    rows: events,
    uuids: events,
    persons: users,
    without_group: 0,
    without_plan: 0,
  })

  // What each user did before it was identified belongs to the same person as what it did after.
  const [joined] = await query<Record<string, number>>(`
    WITH overrides AS (
      SELECT team_id, distinct_id, argMax(person_id, version) AS person_id FROM person_distinct_id_overrides GROUP BY team_id, distinct_id)
    SELECT uniqExact(if(o.distinct_id = '', e.person_id, o.person_id)) AS persons, countIf(event = '${name} before identify') AS before
    FROM events e LEFT JOIN overrides o ON o.team_id = e.team_id AND o.distinct_id = e.distinct_id
    WHERE event IN ('${name} event', '${name} before identify')`)
  expect<object>({ name, ...joined }).toEqual({ name, persons: users, before: users })
}

/** p50 and p99 of the time from capture to queryable, ms. */
export async function freshness(query: Query): Promise<{ p50: number; p99: number }> {
  const [row] = await query<{ p50: number; p99: number }>(
    `SELECT round(quantile(0.5)(d)) AS p50, round(quantile(0.99)(d)) AS p99
     FROM (SELECT dateDiff('millisecond', created_at, inserted_at) AS d FROM events WHERE event LIKE '% event')`,
  )
  return { p50: Number(row!.p50), p99: Number(row!.p99) }
}
