/**
 * Overrides are squashed from outside while events and merges go on, by a verb that is killed at its steps: what a query
 * says of each person is the same before, at every stop, and afterwards; the audit does not notice; and rows that are
 * brought back as they were before the squash come under their right person.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const ROOT = join(import.meta.dir, '../..')
const WITHIN_MS = 30_000
const TEST_MS = 120_000
const PERSONS = 10
const DAY_MS = 86_400_000

let product: Product
beforeAll(async () => {
  product = await startProduct()
}, TEST_MS)
afterAll(async () => {
  await product?.stop()
}, TEST_MS)

type Sent = { event: string; distinct_id: string; properties?: object; timestamp?: string }

async function send(batch: Sent[]): Promise<void> {
  const response = await fetch(`${product.captureUrl}/batch/`, {
    method: 'POST',
    body: JSON.stringify({ api_key: product.token, batch }),
  })
  expect(response.status).toBe(200)
}

const countOf = async (table: string, where = '1') =>
  (await product.sql<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${where}`))[0]!.n
const untilCount = (what: string, table: string, where: string, n: number) =>
  waitFor(what, async () => (await countOf(table, where)) === n, WITHIN_MS, () => product.output.slice(-20).join('\n'))

/** Who did what, as queries see it. */
const resolved = () =>
  product.sql(
    `SELECT distinct_id, toString(person_id) AS person, count() AS n FROM events_resolved
     WHERE event = 'before' GROUP BY distinct_id, person ORDER BY distinct_id, person`,
  )
const overrides = () => countOf('person_distinct_id_overrides FINAL')

async function killedAt(point: string): Promise<void> {
  const verb = Bun.spawn([join(ROOT, 'headrace'), 'squash', '--older-than', '0s'], {
    env: { PATH: process.env.PATH ?? '', ...product.env, HEADRACE_TEST_FAILPOINT: `${point}:1` },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const said = await new Response(verb.stderr).text()
  await verb.exited
  expect(said).toContain(`failpoint ${point}`)
}

const numbers = Array.from({ length: PERSONS }, (_, n) => n)

test(
  'I4: overrides go, killed or not, and nobody sees a difference',
  async () => {
    const old = new Date(Date.now() - 40 * DAY_MS).toISOString()
    await send(
      numbers.flatMap((n) => [
        { event: 'before', distinct_id: `anon-${n}`, timestamp: old },
        { event: 'before', distinct_id: `anon-${n}` },
        { event: 'before', distinct_id: `user-${n}` },
      ]),
    )
    await untilCount('the events', 'events', `event = 'before'`, 3 * PERSONS)
    await send(
      numbers.map((n) => ({
        event: '$identify',
        distinct_id: `user-${n}`,
        properties: { $anon_distinct_id: `anon-${n}` },
      })),
    )
    await untilCount('the overrides', 'person_distinct_id_overrides FINAL', '1', PERSONS)
    const before = await resolved()
    expect(await countOf('events', `event = 'before' AND person_id IN (SELECT person_id FROM person_distinct_id_overrides)`)).toBe(
      PERSONS,
    )
    const dry = await product.run('squash', '--older-than', '0s', '--dry-run', '--json')
    expect(JSON.parse(dry.stdout)).toMatchObject({ applied: false, overrides: PERSONS })
    expect((await product.run('squash')).stdout).toContain('nothing to squash')

    for (const point of ['squash_snapped', 'squash_month_written', 'squash_written', 'squash_removed']) {
      await killedAt(point)
      expect(await resolved()).toEqual(before)
      // Events and a merge go on; the override of the merge is newer than the snapshot.
      await send([
        { event: 'meanwhile', distinct_id: 'anon-0' },
        { event: 'before-no-more', distinct_id: `late-${point}` },
        { event: '$identify', distinct_id: 'user-0', properties: { $anon_distinct_id: `late-${point}` } },
      ])
    }
    const done = await product.run('squash', '--older-than', '0s', '--json')
    expect(done).toMatchObject({ code: 0 })
    expect(JSON.parse(done.stdout)).toMatchObject({ applied: true, overrides: PERSONS })
    expect(await resolved()).toEqual(before)
    expect(await countOf('person_distinct_id_overrides', `distinct_id LIKE 'anon-%'`)).toBe(0)
    await untilCount('what came meanwhile', 'events', `event = 'meanwhile'`, 4)
    const user0 = await product.sql(
      `SELECT uniqExact(person_id) AS n FROM events_resolved WHERE distinct_id IN ('user-0', 'anon-0') OR distinct_id LIKE 'late-%'`,
    )
    await waitFor('the newer overrides', async () => (await overrides()) === 4, WITHIN_MS)
    expect(user0).toEqual([{ n: 1 }])

    expect((await product.run('audit')).code).toBe(0)
    expect((await product.run('repair', 'rows', '--yes')).stdout).toContain('nothing to repair')
    // As they were before the squash: with them their overrides come back.
    await product.sql(`ALTER TABLE events DELETE WHERE distinct_id = 'anon-3' SETTINGS mutations_sync = 2`)
    expect((await product.run('repair', 'rows', '--yes')).code).toBe(0)
    expect(await resolved()).toEqual(before)
    expect(await countOf('person_distinct_id_overrides', `distinct_id = 'anon-3'`)).toBe(1)
  },
  TEST_MS,
)
