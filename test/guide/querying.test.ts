/**
 * Every question of docs/guides/querying.md runs on the real engine and must give what the list of what happened says.
 * `HEADRACE_GUIDE_EVENTS=1000000 bun test test/guide` is the long form.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { EVENTS, GROUPS, PERSON, PERSON_DISTINCT_ID_OVERRIDES, type Table } from '../../src/event/index.ts'
import { addProperty, fillProperty } from '../../src/warehouse/index.ts'
import { plainEventRow } from '../support/event-row.ts'
import { startTestWarehouse, type TestWarehouse } from '../support/warehouse.ts'
import { eventRowOf, groupRowsOf, openShop, overrideRowsOf, personRowsOf, START_MS } from './data.ts'
import { truthOf } from './truth.ts'

const EVENT_COUNT = Number(process.env.HEADRACE_GUIDE_EVENTS ?? 6_000)
setDefaultTimeout(60_000 + EVENT_COUNT)

const ROWS_PER_INSERT = 50_000
const GUIDE = readFileSync(join(import.meta.dir, '../../docs/guides/querying.md'), 'utf8')
const QUESTIONS = [...GUIDE.matchAll(/<!-- question: (.+) -->\n```sql\n([\s\S]+?)```/g)].map(
  ([, name, sql]) => [name!, sql!] as const,
)
const shop = openShop(EVENT_COUNT)
const truth = truthOf(shop)

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
  await insert(EVENTS, shop.happenings.length, (n) => EVENTS.encode(eventRowOf(shop, n)))
  await insertAll(PERSON, personRowsOf(shop))
  await insertAll(PERSON_DISTINCT_ID_OVERRIDES, overrideRowsOf(shop))
  await insertAll(GROUPS, groupRowsOf(shop))
  await insert(EVENTS, 500, otherProject)
  await addProperty(live.warehouse, { name: 'amount', type: 'number' })
  await fillProperty(live.warehouse, 'amount')
})
afterAll(() => live.stop())

let inserts = 0
async function insert(table: Table, count: number, row: (n: number) => Uint8Array): Promise<void> {
  for (let from = 0; from < count; from += ROWS_PER_INSERT) {
    const rows = Array.from({ length: Math.min(ROWS_PER_INSERT, count - from) }, (_, i) => row(from + i))
    await live.warehouse.insertRows({ table, rows, token: `guide ${inserts++}` })
  }
}

function insertAll(table: Table, rows: readonly object[]): Promise<void> {
  return insert(table, rows.length, (n) => table.encode(rows[n] as never))
}

/** Another project with the same names, ids and times: no question may count it. */
function otherProject(n: number): Uint8Array {
  const row = eventRowOf(shop, n)
  return EVENTS.encode(plainEventRow({ ...row, team_id: 2, timestamp: START_MS + n, _offset: 1e9 + n }))
}

/** Averages are rounded alike; all else must be the same. */
function rounded(rows: object[]): object[] {
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).map(([name, value]) => [
        name,
        typeof value === 'number' ? Math.round(value * 1e6) / 1e6 : value,
      ]),
    ),
  )
}

describe('docs/guides/querying.md', () => {
  test('asks twenty questions, and each has its truth', () => {
    expect(QUESTIONS.map(([name]) => name)).toEqual(Object.keys(truth))
    expect(QUESTIONS.length).toBe(20)
  })

  for (const [name, sql] of QUESTIONS)
    test(name, async () => {
      const wanted = truth[name]!()
      expect(wanted.length).toBeGreaterThan(0)
      expect(rounded(await live.warehouse.query<object>(sql))).toEqual(rounded(wanted))
    })
})
