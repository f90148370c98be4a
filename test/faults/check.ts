/**
 * The invariants after a fault test, by number and by uuid: I1 (no acknowledged event is missing), I2 (none is
 * stored twice, without FINAL), I3 (per distinct id in the order of sending), and that no event is there that was
 * never sent. Throws one error that names what is wrong.
 */
import type { Query } from '../e2e/sdks/expect.ts'
import type { SentEvent } from './generator.ts'

export type Verdict = { acked: number; stored: number; unackedStored: number }

const NAMED_MAX = 5

export async function untilAllStored(
  query: Query,
  sent: ReadonlyMap<string, SentEvent>,
  deadlineMs: number,
): Promise<void> {
  const acked = [...sent.values()].filter((event) => event.acked).length
  const until = performance.now() + deadlineMs
  for (;;) {
    const stored = await countStored(query)
    if (stored >= acked) return
    if (performance.now() > until)
      throw new Error(`I1: ${stored} events are stored after ${deadlineMs} ms, ${acked} were acknowledged`)
    await Bun.sleep(500)
  }
}

/** The warehouse may be on its way up again. */
async function countStored(query: Query): Promise<number> {
  try {
    const [row] = await query<{ n: number }>(
      "SELECT uniqExact(uuid) AS n FROM events WHERE event IN ('load', '$identify')",
    )
    return Number(row!.n)
  } catch {
    return -1
  }
}

export async function checkInvariants(query: Query, sent: ReadonlyMap<string, SentEvent>): Promise<Verdict> {
  const rows = await query<{
    uuid: string
    copies: number
    distinct_id: string
    place: number
    sequence: number
  }>(
    `SELECT toString(uuid) AS uuid, count() AS copies, any(distinct_id) AS distinct_id, min(_offset) AS place,
            any(JSONExtractInt(properties, 'sequence')) AS sequence
     FROM events WHERE event IN ('load', '$identify') GROUP BY uuid`,
  )
  const stored = new Map(rows.map((row) => [row.uuid, row]))
  const missing = [...sent].filter(([uuid, event]) => event.acked && !stored.has(uuid)).map(([uuid]) => uuid)
  refuse('I1: acknowledged but not stored', missing)
  refuse(
    'I2: stored more than once',
    rows.filter((row) => Number(row.copies) !== 1).map((row) => row.uuid),
  )
  refuse(
    'stored but never sent',
    rows.filter((row) => !sent.has(row.uuid)).map((row) => row.uuid),
  )
  refuse('I3: out of order', outOfOrder(rows))
  const acked = [...sent.values()].filter((event) => event.acked).length
  return { acked, stored: rows.length, unackedStored: rows.length - acked }
}

function outOfOrder(
  rows: { uuid: string; distinct_id: string; place: number; sequence: number }[],
): string[] {
  const byId = new Map<string, typeof rows>()
  for (const row of rows) {
    const list = byId.get(row.distinct_id)
    if (list) list.push(row)
    else byId.set(row.distinct_id, [row])
  }
  const wrong: string[] = []
  for (const list of byId.values()) {
    list.sort((a, b) => Number(a.place) - Number(b.place))
    for (let i = 1; i < list.length; i++) {
      if (Number(list[i]!.sequence) <= Number(list[i - 1]!.sequence)) wrong.push(list[i]!.uuid)
    }
  }
  return wrong
}

/** Every person has the last property that was set on it and acknowledged, or a later one that was sent. */
export async function checkPersons(query: Query, sent: ReadonlyMap<string, SentEvent>): Promise<void> {
  const expected = new Map<string, number>()
  for (const event of sent.values()) {
    if (!event.acked || event.sequence % 3 !== 0) continue
    expected.set(event.distinctId, Math.max(expected.get(event.distinctId) ?? -1, event.sequence))
  }
  const rows = await query<{ distinct_id: string; last: number }>(
    `WITH overrides AS (
       SELECT team_id, distinct_id, argMax(person_id, version) AS person_id FROM person_distinct_id_overrides GROUP BY team_id, distinct_id),
     persons AS (SELECT id, argMax(properties, version) AS properties, argMax(is_deleted, version) AS gone FROM person GROUP BY id)
     SELECT e.distinct_id AS distinct_id, any(JSONExtractInt(p.properties, 'last_sequence')) AS last
     FROM (SELECT DISTINCT team_id, distinct_id, person_id FROM events WHERE event = 'load') e
     LEFT JOIN overrides o ON o.team_id = e.team_id AND o.distinct_id = e.distinct_id
     JOIN persons p ON p.id = if(o.distinct_id = '', e.person_id, o.person_id)
     WHERE p.gone = 0 GROUP BY distinct_id`,
  )
  const last = new Map(rows.map((row) => [row.distinct_id, Number(row.last)]))
  refuse(
    'a person lost a property that was acknowledged',
    [...expected]
      .filter(([id, sequence]) => (last.get(id) ?? -1) < sequence)
      .map(([id, sequence]) => `${id} (${last.get(id)} < ${sequence})`),
  )
}

function refuse(what: string, which: string[]): void {
  if (which.length > 0)
    throw new Error(`${what}: ${which.length}, such as ${which.slice(0, NAMED_MAX).join(', ')}`)
}
