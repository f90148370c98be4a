/**
 * The audit from outside: on a product that runs, one thing is changed by hand after the other, and `headrace audit`
 * names exactly those, by offset, with the way to the runbook.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import pino from 'pino'
import { CANARY_TEAM_ID, embeddedSocketDir, openPostgres, type Sql } from '../../src/catalog/index.ts'
import { DUPLICATE, decodeOutcomes, encodeOutcomes } from '../../src/event/index.ts'
import { Canary } from '../../src/ledger/index.ts'
import { metricsText } from '../../src/observe/index.ts'
import { openWarehouse } from '../../src/warehouse/index.ts'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const TEST_MS = 120_000
const STORED_WITHIN_MS = 30_000
const EVENTS = 40

type Row = { uuid: string; log_id: string; partition: number; offset: number }
type Told = {
  exact: boolean
  unaccounted: number
  partitions: {
    logId: string
    partition: number
    through: number
    receivedThrough: number
    findings: { kind: string; from: number; to: number }[]
  }[]
  outcomes: { project: string; sdk: string; state: string; events: number }[]
}

describe('I4: what is changed by hand', () => {
  let product: Product
  let sql: Sql
  beforeAll(async () => {
    product = await startProduct()
    const socketDir = embeddedSocketDir(join(product.dataDir, 'postgres'))
    sql = openPostgres({ url: { socketDir }, name: 'test', connectionsMax: 1 })
  }, TEST_MS)
  afterAll(async () => {
    await sql?.end({ timeout: 1 })
    await product?.stop()
  }, TEST_MS)

  const rows = () =>
    product.sql<Row>(
      'SELECT uuid, _log_id AS log_id, _partition AS partition, _offset AS offset FROM events ORDER BY uuid',
    )

  async function audit(...args: string[]): Promise<{ code: number; told: Told; found: string[] }> {
    const { code, stdout, stderr } = await product.run('audit', '--json', ...args)
    if (stdout === '') throw new Error(stderr)
    const told = JSON.parse(stdout) as Told
    const found = told.partitions.flatMap(({ logId, partition, findings }) =>
      findings.map(
        ({ kind, from, to }) => `${kind} ${logId}/${partition}/${from}${to - from > 1 ? '…' : ''}`,
      ),
    )
    return { code, told, found: found.sort() }
  }

  const at = (kind: string, { log_id, partition, offset }: Row) => `${kind} ${log_id}/${partition}/${offset}`

  test(
    'is found, each by its offset',
    async () => {
      const batch = Array.from({ length: EVENTS }, (_, i) => ({ event: 'seen', distinct_id: `person-${i}` }))
      const response = await fetch(`${product.captureUrl}/batch/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ api_key: product.token, batch }),
      })
      expect(response.status).toBe(200)
      await waitFor('rows', async () => (await rows()).length === EVENTS, STORED_WITHIN_MS)
      let clean = await audit()
      const complete = async () => {
        clean = await audit()
        return clean.told.partitions.every(({ through, receivedThrough }) => through === receivedThrough)
      }
      await waitFor('load progress', complete, STORED_WITHIN_MS)
      expect([clean.code, clean.told.exact, clean.found]).toEqual([0, true, []])
      // Counted in the receipts, by hour, project, SDK and outcome; the outbox has nothing of it.
      const [counted] = await sql`
        SELECT sum((c ->> 4)::int)::int AS events, bool_and(c ->> 1 = '1' AND c ->> 3 = '0') AS stored,
          bool_or(outbox ? 'counts') AS twice
        FROM receipt, jsonb_array_elements(counts) AS c`
      expect(counted).toEqual({ events: EVENTS, stored: true, twice: false })

      const [removed, doubled, changed] = (await rows()) as [Row, Row, Row]
      await product.sql(
        `ALTER TABLE events DELETE WHERE uuid = '${removed.uuid}' SETTINGS mutations_sync = 2`,
      )
      const afterRemoval = await audit()
      expect([afterRemoval.code, afterRemoval.found]).toEqual([1, [at('row_missing', removed)]])

      await product.sql('SYSTEM STOP MERGES events')
      await product.sql(
        `INSERT INTO events SELECT * FROM events WHERE uuid = '${doubled.uuid}' SETTINGS insert_deduplicate = 0`,
      )
      const both = [at('row_missing', removed), at('row_doubled', doubled)].sort()
      // One row too few and one too many: as many rows as there should be.
      expect(await rows()).toHaveLength(EVENTS)
      expect((await audit()).found).toEqual(both)

      const [receipt] = await sql<{ from_offset: number; outcomes: Uint8Array }[]>`
        SELECT from_offset, outcomes FROM receipt WHERE log_id = ${changed.log_id} AND partition = ${changed.partition}
          AND from_offset <= ${changed.offset} AND to_offset > ${changed.offset}`
      const outcomes = decodeOutcomes(receipt!.outcomes)
      outcomes[changed.offset - receipt!.from_offset] = { code: DUPLICATE, rows: 0 }
      await sql`
        UPDATE receipt SET outcomes = ${encodeOutcomes(outcomes)}, stored = stored - 1, duplicate = duplicate + 1,
          stored_rows = stored_rows - 1
        WHERE log_id = ${changed.log_id} AND partition = ${changed.partition} AND from_offset = ${receipt!.from_offset}`
      const all = [...both, at('outcome_missing', changed), at('row_unexpected', changed)].sort()
      expect((await audit()).found).toEqual(all)

      const text = await product.run('audit')
      expect(text.code).toBe(1)
      expect(text.stdout).toContain(
        `raw_events/${removed.partition} offset ${removed.offset}  row_missing: 0 of 1 rows`,
      )
      expect(text.stdout).toContain(
        '3 offsets do not add up; what to do: docs/runbooks/ledger.md#unaccounted',
      )
    },
    TEST_MS,
  )

  test(
    'is not what the canary is: it measures how fresh ClickHouse is, and no list shows it',
    async () => {
      const { captureUrl } = product
      const warehouse = openWarehouse({ url: product.warehouseUrl })
      const options = { sql, warehouse, captureUrl, logger: pino({ level: 'silent' }) }
      const before = (await rows()).length
      try {
        expect(await new Canary(options).fly()).toBe('queryable')
        expect(await metricsText()).toMatch(/headrace_freshness_seconds\{quantile="0\.99"\} \d/)
        expect(await new Canary({ ...options, queryableMsMax: 0 }).fly()).toBe('late')
        expect(await new Canary({ ...options, captureUrl: 'http://127.0.0.1:1' }).fly()).toBe('refused')
      } finally {
        await warehouse.close()
      }
      const ofCustomers = await product.sql('SELECT 1 FROM events WHERE team_id = 1')
      expect(ofCustomers).toHaveLength(before)
      for (const list of ['list', 'usage'])
        expect((await product.run('project', list, '--json')).stdout).not.toContain(String(CANARY_TEAM_ID))
    },
    TEST_MS,
  )

  test(
    'is not looked for outside the time that was asked for',
    async () => {
      const before = await audit('--to', '2020-01-01', '--project', 'default')
      expect([before.code, before.told.partitions, before.told.outcomes]).toEqual([0, [], []])
      const wrong = await product.run('audit', '--from', 'yesterday')
      expect([wrong.code, wrong.stderr]).toEqual([
        2,
        expect.stringContaining('a time such as 2026-11-23 or 2026-11-23T08:00Z is needed'),
      ])
    },
    TEST_MS,
  )
})
