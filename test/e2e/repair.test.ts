/**
 * A ClickHouse that went back to an earlier state, mended from outside while events go on coming in, by a repair that is
 * killed on its way more than once: afterwards every event is there once, and the audit is exact.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const ROOT = join(import.meta.dir, '../..')
const EVENTS = 3_000
const BATCH = 500
const WITHIN_MS = 30_000
const TEST_MS = 120_000
const KILLS = 2

let product: Product
beforeAll(async () => {
  product = await startProduct()
}, TEST_MS)
afterAll(async () => {
  await product?.stop()
}, TEST_MS)

async function send(from: number, count: number): Promise<void> {
  const batch = Array.from({ length: count }, (_, n) => ({
    event: 'sent',
    distinct_id: `user-${(from + n) % 50}`,
    properties: { n: from + n },
  }))
  const response = await fetch(`${product.captureUrl}/batch/`, {
    method: 'POST',
    body: JSON.stringify({ api_key: product.token, batch }),
  })
  expect(response.status).toBe(200)
}

type Counts = { rows: number; events: number }
const counts = async (): Promise<Counts> =>
  (
    await product.sql<Counts>(
      `SELECT count() AS rows, uniqExact(JSONExtractInt(properties, 'n')) AS events FROM events WHERE event = 'sent'`,
    )
  )[0]!

const untilThere = (rows: number) =>
  waitFor(
    'the rows',
    async () => (await counts()).rows >= rows,
    WITHIN_MS,
    () => product.output.slice(-20).join('\n'),
  )

test(
  'I1, I2, I4: ClickHouse is emptied; a repair that is killed again and again brings all of it back once',
  async () => {
    for (let from = 0; from < EVENTS; from += BATCH) await send(from, BATCH)
    await untilThere(EVENTS)
    for (const table of ['events', 'person', 'outcomes']) await product.sql(`TRUNCATE TABLE ${table}`)
    expect((await product.run('audit')).code).toBe(1)
    const dry = await product.run('repair', 'rows', '--dry-run', '--json')
    expect(dry).toMatchObject({ code: 1, stderr: '' })
    expect(JSON.parse(dry.stdout)).toMatchObject({ applied: false, state: { persons: 50 } })

    for (let kill = 0; kill < KILLS; kill++) {
      const { rows } = await counts()
      const repair = Bun.spawn([join(ROOT, 'headrace'), 'repair', 'rows', '--yes'], {
        env: { PATH: process.env.PATH ?? '', ...product.env },
        stdio: ['ignore', 'ignore', 'ignore'],
      })
      const atWork = async () => repair.exitCode !== null || (await counts()).rows > rows
      await waitFor('an insert of the repair', atWork, WITHIN_MS)
      repair.kill('SIGKILL')
      await repair.exited
    }
    await send(EVENTS, BATCH)
    const done = await product.run('repair', 'rows', '--yes')
    expect(done).toMatchObject({ code: 0, stderr: '' })
    await untilThere(EVENTS + BATCH)
    expect(await counts()).toEqual({ rows: EVENTS + BATCH, events: EVENTS + BATCH })
    const audit = await product.run('audit')
    expect(audit).toMatchObject({ code: 0 })
    const again = await product.run('repair', 'rows')
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing to repair') })
    expect((await product.run('repair', 'rows', '--from', '5', '--to', '5')).code).toBe(2)
  },
  TEST_MS,
)
