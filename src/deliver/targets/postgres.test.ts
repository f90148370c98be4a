/** Rows in another Postgres: by upsert, with the neighbours of a row that cannot be stored. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import postgres from 'postgres'
import { plainEventRow } from '../../../test/support/event-row.ts'
import { startPostgresByUrl, type UrlPostgres } from '../../../test/support/postgres.ts'
import { EVENTS, NIL_UUID } from '../../event/index.ts'
import { EventView } from '../event-view.ts'
import { AddressRules } from '../http/address.ts'
import { HttpClient } from '../http/client.ts'
import { targetKind } from './index.ts'
import type { Target } from './target.ts'

setDefaultTimeout(60_000)
let server: UrlPostgres
let sql: postgres.Sql
const targets: Target[] = []
beforeAll(async () => {
  server = await startPostgresByUrl()
  sql = postgres(server.url, { max: 1 })
  await sql`CREATE TABLE paid (id uuid PRIMARY KEY, who text, amount numeric CHECK (amount < 100), at timestamptz, raw jsonb)`
})
afterAll(async () => {
  await Promise.all(targets.map((target) => target.close?.()))
  await sql.end()
  await server.stop()
})

const COLUMNS = {
  id: '{id}',
  who: '{distinct_id}',
  amount: '{properties.amount}',
  at: '{timestamp}',
  raw: '{properties}',
}

function open(more: Record<string, unknown> = {}, allowed = '127.0.0.1'): Target {
  const { hostname, port, username, password, pathname } = new URL(server.url)
  const options = {
    host: hostname,
    port: Number(port),
    database: pathname.slice(1),
    user: username,
    password,
    tls: 'off',
    table: 'paid',
    columns: COLUMNS,
    ...more,
  }
  const target = targetKind('postgres').open(options, {
    http: new HttpClient({ rules: AddressRules.read(allowed) }),
    destinationId: NIL_UUID,
    teamId: 1,
    timeoutMs: 5_000,
    clock: Date.now,
  })
  targets.push(target)
  return target
}

function delivery(n: number, amount: number) {
  const row = plainEventRow({ distinct_id: `it's ${n}`, properties: JSON.stringify({ amount }) })
  const source = { logId: NIL_UUID, partition: 0, offset: n, sub: 0 }
  return { id: `0000000${n}-0000-5000-8000-000000000000`, view: new EventView(EVENTS.encode(row), source, 1) }
}

const { signal } = new AbortController()
const kinds = async (target: Target, ...deliveries: ReturnType<typeof delivery>[]) =>
  (await target.send(deliveries, signal)).map(({ kind }) => kind)

test('a batch is stored by one statement, and again without a second row', async () => {
  const target = open()
  expect(await kinds(target, delivery(1, 1), delivery(2, 2.5), delivery(1, 1))).toEqual(
    Array(3).fill('delivered'),
  )
  expect(await kinds(target, delivery(2, 3), delivery(3, 4))).toEqual(Array(2).fill('delivered'))
  const rows = await sql`SELECT who, amount, raw->>'amount' AS raw FROM paid ORDER BY id`
  expect(rows.map(({ who, amount, raw }) => [who, amount, raw])).toEqual([
    ["it's 1", '1', '1'],
    ["it's 2", '3', '3'],
    ["it's 3", '4', '4'],
  ])
})

test('a row that cannot be stored is refused, and its neighbours are stored', async () => {
  const target = open()
  const verdicts = await target.send([delivery(4, 1), delivery(5, 1_000), delivery(6, 1)], signal)
  expect(verdicts.map(({ kind }) => kind)).toEqual(['delivered', 'refused', 'delivered'])
  expect(verdicts[1]!.response).toStartWith('23514 ')
  expect((await sql`SELECT id FROM paid`).length).toBe(5)
})

test('what waiting mends is no fault of the rows', async () => {
  expect(await kinds(open({ table: 'absent' }), delivery(7, 1))).toEqual(['failed'])
  expect(await kinds(open({ password: 'wrong' }), delivery(7, 1))).toEqual(['failed'])
  expect(await kinds(open({ port: 1 }), delivery(7, 1))).toEqual(['failed'])
})

test('a private address is not connected to', async () => {
  const [verdict] = await open({}, '').send([delivery(8, 1)], signal)
  expect(verdict).toMatchObject({ kind: 'failed' })
  expect(verdict!.response).toContain('has no public address')
})

test.each([
  [{ table: 'a"; DROP TABLE b' }, 'is none'],
  [{ key: 'absent' }, 'key one of its columns'],
  [{ columns: { 'a b': 1 } }, '"a b" is none'],
])('%j is refused', (options, sentence) => {
  expect(() => open(options)).toThrow(sentence)
})
