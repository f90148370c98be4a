/**
 * Stored rows are changed from outside while events go on coming in, by verbs that are killed on their way. Squash: what a
 * query says of each person is the same before, at every stop and afterwards; rows that are brought back as they were
 * before come under their right person. Deletion: nothing of the person is left, a repair brings nothing back, and the
 * person that returns is somebody new. After both the audit is exact.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const ROOT = join(import.meta.dir, '../..')
const WITHIN_MS = 30_000
const TEST_MS = 120_000
const OLD = new Date(Date.now() - 40 * 86_400_000).toISOString()

let product: Product
let stopLoad: () => Promise<void>
beforeAll(async () => {
  product = await startProduct()
  stopLoad = startLoad()
}, TEST_MS)
afterAll(async () => {
  await stopLoad?.()
  await product?.stop()
}, TEST_MS)

type Sent = { event: string; distinct_id: string; properties?: object; timestamp?: string }

async function send(...batch: Sent[]): Promise<void> {
  const response = await fetch(`${product.captureUrl}/batch/`, {
    method: 'POST',
    body: JSON.stringify({ api_key: product.token, batch }),
  })
  expect(response.status).toBe(200)
}

/** Others, all the time. */
function startLoad(): () => Promise<void> {
  let stopping = false
  const running = (async () => {
    for (let n = 0; !stopping; n++) {
      await send(
        ...Array.from({ length: 5 }, (_, i) => ({
          event: 'load',
          distinct_id: `user-${(n + i) % 40}`,
          properties: { $set: { n } },
        })),
      )
      await Bun.sleep(100)
    }
  })()
  return async () => {
    stopping = true
    await running
  }
}

const one = async <T>(query: string): Promise<T> => (await product.sql<T>(query))[0]!
const countOf = async (table: string, where: string) =>
  (await one<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${where}`)).n

const untilCount = (what: string, table: string, where: string, n: number) =>
  waitFor(
    what,
    async () => (await countOf(table, where)) === n,
    WITHIN_MS,
    () => product.output.slice(-20).join('\n'),
  )

/** The verb, killed where the failpoint says. */
async function killedAt(point: string, args: string[]): Promise<void> {
  const verb = Bun.spawn([join(ROOT, 'headrace'), ...args], {
    env: { PATH: process.env.PATH ?? '', ...product.env, HEADRACE_TEST_FAILPOINT: `${point}:1` },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const said = await new Response(verb.stderr).text()
  await verb.exited
  expect(said).toContain(`failpoint ${point}`)
}

const PERSONS = 10

/** Who did what, as queries see it. */
const resolved = () =>
  product.sql(
    `SELECT distinct_id, toString(person_id) AS person, count() AS n FROM events_resolved
     WHERE event = 'before' GROUP BY distinct_id, person ORDER BY distinct_id, person`,
  )

test(
  'I4: overrides go, killed or not, and nobody sees a difference',
  async () => {
    const numbers = Array.from({ length: PERSONS }, (_, n) => n)
    await send(
      ...numbers.flatMap((n) => [
        { event: 'before', distinct_id: `visitor-${n}`, timestamp: OLD },
        { event: 'before', distinct_id: `visitor-${n}` },
        { event: 'before', distinct_id: `member-${n}` },
      ]),
    )
    await untilCount('the events', 'events', `event = 'before'`, 3 * PERSONS)
    await send(
      ...numbers.map((n) => ({
        event: '$identify',
        distinct_id: `member-${n}`,
        properties: { $anon_distinct_id: `visitor-${n}` },
      })),
    )
    await untilCount('the overrides', 'person_distinct_id_overrides FINAL', '1', PERSONS)
    const before = await resolved()
    expect(
      await countOf(
        'events',
        `event = 'before' AND person_id IN (SELECT person_id FROM person_distinct_id_overrides)`,
      ),
    ).toBe(PERSONS)
    const dry = await product.run('squash', '--older-than', '0s', '--dry-run', '--json')
    expect(JSON.parse(dry.stdout)).toMatchObject({ applied: false, overrides: PERSONS })
    expect((await product.run('squash')).stdout).toContain('nothing to squash')

    for (const point of ['squash_snapped', 'squash_month_written', 'squash_written', 'squash_removed']) {
      await killedAt(point, ['squash', '--older-than', '0s'])
      expect(await resolved()).toEqual(before)
      // Events and a merge go on; the override of the merge is newer than the snapshot.
      await send(
        { event: 'meanwhile', distinct_id: 'visitor-0' },
        { event: 'meanwhile', distinct_id: `late-${point}` },
        { event: '$identify', distinct_id: 'member-0', properties: { $anon_distinct_id: `late-${point}` } },
      )
    }
    const done = await product.run('squash', '--older-than', '0s', '--json')
    expect(done).toMatchObject({ code: 0 })
    expect(JSON.parse(done.stdout)).toMatchObject({ applied: true, overrides: PERSONS })
    expect(await resolved()).toEqual(before)
    expect(await countOf('person_distinct_id_overrides', `distinct_id LIKE 'visitor-%'`)).toBe(0)
    await untilCount('what came meanwhile', 'events', `event = 'meanwhile'`, 8)
    await untilCount(
      'the newer overrides',
      'person_distinct_id_overrides FINAL',
      `distinct_id LIKE 'late-%'`,
      4,
    )
    expect(
      await one(
        `SELECT uniqExact(person_id) AS n FROM events_resolved
         WHERE distinct_id IN ('member-0', 'visitor-0') OR distinct_id LIKE 'late-%'`,
      ),
    ).toEqual({ n: 1 })

    expect((await product.run('audit')).code).toBe(0)
    expect((await product.run('repair', 'rows', '--yes')).stdout).toContain('nothing to repair')
    // As they were before the squash: with them their overrides come back.
    await product.sql(`ALTER TABLE events DELETE WHERE distinct_id = 'visitor-3' SETTINGS mutations_sync = 2`)
    expect((await product.run('repair', 'rows', '--yes')).code).toBe(0)
    expect(await resolved()).toEqual(before)
    expect(await countOf('person_distinct_id_overrides', `distinct_id = 'visitor-3'`)).toBe(1)
  },
  TEST_MS,
)

const ANNA = 'anna@example.com'
const IDS = `distinct_id IN ('${ANNA}', 'anon-1', 'anon-2', 'phone')`

test(
  'I1, I4: a person goes whole, whatever kills the deletion, and comes back as somebody new',
  async () => {
    await send(
      { event: 'seen', distinct_id: 'anon-1', timestamp: OLD },
      { event: 'seen', distinct_id: 'anon-2' },
      { event: 'seen', distinct_id: ANNA, properties: { $set: { email: ANNA } } },
    )
    await untilCount('three persons', 'events', IDS, 3)
    await send(
      { event: '$identify', distinct_id: ANNA, properties: { $anon_distinct_id: 'anon-1' } },
      { event: '$identify', distinct_id: ANNA, properties: { $anon_distinct_id: 'anon-2' } },
      { event: '$create_alias', distinct_id: ANNA, properties: { alias: 'phone' } },
      { event: 'personless', distinct_id: 'phone', properties: { $process_person_profile: false } },
      // A warning, and an outcome, that name her.
      { event: '$identify', distinct_id: ANNA, properties: { $anon_distinct_id: 'null' } },
    )
    await untilCount('her events', 'events', IDS, 8)
    await untilCount('her overrides', 'person_distinct_id_overrides FINAL', IDS, 3)
    await untilCount('her warning', 'ingestion_warnings', `position(details, '${ANNA}') > 0`, 1)
    const { id } = await one<{ id: string }>(
      `SELECT DISTINCT person_id AS id FROM events_resolved WHERE distinct_id = '${ANNA}'`,
    )
    expect(await countOf('events_resolved', `person_id = '${id}'`)).toBe(8)

    const dry = await product.run('person', 'delete', id, '--dry-run', '--json')
    expect(dry).toMatchObject({ code: 1, stderr: '' })
    expect(JSON.parse(dry.stdout)).toMatchObject({
      applied: false,
      distinctIds: 4,
      rows: { events: 8, ingestion_warnings: 1 },
    })

    const args = ['person', 'delete', id, '--yes', '--why', 'asked for']
    for (const point of ['deletion_taken', 'erasure_recorded', 'erasure_carried_out'])
      await killedAt(point, args)
    // Back under two of her ids before the deletion is over.
    await send({ event: 'back', distinct_id: ANNA, properties: { $set: { visits: 1 } } })
    await send({ event: 'back', distinct_id: 'anon-2' })
    const done = await product.run(...args, '--json')
    expect(done).toMatchObject({ code: 0 })
    expect(JSON.parse(done.stdout)).toMatchObject({
      state: 'done',
      counts: { persons: 3, distinctIds: 4, events: 8, ingestion_warnings: 1 },
    })

    await untilCount('her return', 'events', `event = 'back'`, 2)
    expect(await countOf('events', `${IDS} AND event != 'back'`)).toBe(0)
    expect(await countOf('ingestion_warnings', `position(details, '${ANNA}') > 0`)).toBe(0)
    expect(await countOf('person', `position(properties, '${ANNA}') > 0`)).toBe(0)
    // Two persons now, since nothing joins these ids any more; each visible at once.
    await untilCount('her new person', 'persons_current', `properties LIKE '%visits%'`, 1)
    expect(await countOf('events_resolved', `distinct_id = '${ANNA}' AND person_id = '${id}'`)).toBe(1)
    expect(
      await countOf(
        'events_current',
        `event = 'back' AND distinct_id = 'anon-2' AND person_id != '${id}' AND current_person_properties != ''`,
      ),
    ).toBe(1)

    const audit = await product.run('audit', '--json')
    expect(audit).toMatchObject({ code: 0 })
    const { partitions } = JSON.parse(audit.stdout) as { partitions: { erased: number }[] }
    expect(partitions.reduce((sum, { erased }) => sum + erased, 0)).toBe(8)
    const repair = await product.run('repair', 'rows', '--yes')
    expect(repair.stdout).toContain('nothing to repair')
    expect(await countOf('events', `${IDS} AND event != 'back'`)).toBe(0)
    const list = await product.run('person', 'deletions', '--json')
    expect(list.stdout).not.toContain(id)
    expect(JSON.parse(list.stdout)).toMatchObject([{ state: 'done', why: 'asked for' }])
  },
  TEST_MS,
)
