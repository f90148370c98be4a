/** A ClickHouse that does not take rows: each class of failure is said in its own words, nothing is lost, and load goes on by itself (I1, I5, I7). */
import { describe, expect, test } from 'bun:test'
import { startTcpProxy } from '../../test/support/tcp-proxy.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { bench, benchForEachTest, servers, stored } from './bench.fixture.ts'
import { loadMetrics } from './metrics.ts'

benchForEachTest()

const command = (sql: string) => bench.warehouse.command(sql)
const retriesOf = async (code: string) => {
  const { values } = await loadMetrics.retries.get()
  return values.find(({ labels }) => labels.code === code)?.value ?? 0
}

type Harm = {
  says: RegExp
  /** Of the insert that is tried again; none where it is asked before anything is sent. */
  code?: string
  harm: () => Promise<void>
  mend: () => Promise<void>
  /** What it asks ClickHouse again and again while it waits, and not to take the rows. */
  asks?: string
}

const HARMS: Record<string, Harm> = {
  'the table is read-only': {
    says: /^ClickHouse is read-only and does not take rows: /,
    code: 'HR_WAREHOUSE_READ_ONLY',
    harm: () => command('ALTER TABLE events MODIFY SETTING table_readonly = 1'),
    mend: () => command('ALTER TABLE events MODIFY SETTING table_readonly = 0'),
  },
  'too many parts: it waits for merges': {
    asks: 'system.parts',
    says: /^ClickHouse has too many parts and must merge some before it takes rows: /,
    code: 'HR_WAREHOUSE_TOO_MANY_PARTS',
    harm: async () => {
      await command('SYSTEM STOP MERGES events')
      // In the month of the rows that come.
      const load = await bench.load()
      for (let part = 1; part <= 3; part++) {
        await bench.raw[1]!.batch(stored(1))
        await bench.waitForRows(part)
      }
      await load.stop()
      await command('ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 2')
    },
    mend: async () => {
      await command('ALTER TABLE events RESET SETTING parts_to_throw_insert')
      await command('SYSTEM START MERGES events')
      await command('OPTIMIZE TABLE events FINAL')
    },
  },
  'the schema is behind: a column is missing': {
    says: /^the schema of ClickHouse is behind this version; its migrations must run: /,
    code: 'HR_WAREHOUSE_SCHEMA_BEHIND',
    harm: () => command('ALTER TABLE events DROP COLUMN _restamped'),
    mend: () => command('ALTER TABLE events ADD COLUMN _restamped Bool CODEC(ZSTD(1)) AFTER _config_version'),
  },
  'the schema is behind: the table is missing': {
    says: /^the schema of ClickHouse is behind this version; its migrations must run: /,
    harm: () => command('RENAME TABLE events TO events_away'),
    mend: () => command('RENAME TABLE events_away TO events'),
  },
}

describe('it says what is wrong, and goes on when that is mended', () => {
  for (const [name, { says, code, asks, harm, mend }] of Object.entries(HARMS))
    test(name, async () => {
      await harm()
      let mended = false
      const proxy = await startTcpProxy({
        target: { host: '127.0.0.1', port: Number(new URL(servers.warehouse.url).port) },
      })
      const warehouse = openWarehouse({ url: `http://127.0.0.1:${proxy.port}` })
      let inserts = 0
      let asked = 0
      proxy.onRequest = (_, chunk) => {
        if (chunk.includes('INSERT')) inserts++
        if (asks && chunk.includes(asks)) asked++
      }
      try {
        await bench.raw[0]!.batch(stored(30))
        const load = await bench.load({ warehouse })
        await waitFor('unreadiness', async () => (await load.notReady()) !== undefined, 20_000)
        expect(await load.notReady()).toMatch(says)
        if (asks) {
          await waitFor(`it to ask ${asks}`, () => asked >= 3, 20_000)
          expect(inserts).toBe(1)
        }
        await mend()
        mended = true
        await waitFor('readiness', async () => (await load.notReady()) === undefined, 20_000)
        const rows = 30 + bench.raw[1]!.offset
        await bench.waitForRows(rows)
        await bench.waitForSettled()
        expect(await bench.stored()).toEqual({ rows, sources: rows })
        expect((await bench.intents()).repair).toBeUndefined()
        if (code) expect(await retriesOf(code)).toBeGreaterThan(0)
        await load.stop()
      } finally {
        if (!mended) await mend()
        await warehouse.close()
        await proxy.close()
      }
    })
})

test('no memory for an insert: it goes in pieces that fit', async () => {
  // What a piece needs, is there; what all need, is not.
  const limited = openWarehouse({
    url: `${servers.warehouse.url}/?clickhouse_setting_max_memory_usage=24000000`,
  })
  try {
    const before = await retriesOf('HR_WAREHOUSE_OUT_OF_MEMORY')
    for (const raw of bench.raw) await raw.batch(stored(500), undefined, 'x'.repeat(8_000))
    await bench.load({ warehouse: limited })
    await bench.waitForRows(1_000)
    await bench.waitForSettled()
    expect(await bench.stored()).toEqual({ rows: 1_000, sources: 1_000 })
    expect(await retriesOf('HR_WAREHOUSE_OUT_OF_MEMORY')).toBeGreaterThan(before + 2)
    const [intents] =
      await bench.sql`SELECT count(*) FILTER (WHERE parent IS NOT NULL)::int AS children FROM load_intent`
    expect(intents!.children).toBeGreaterThan(0)
    expect((await bench.intents()).repair).toBeUndefined()
  } finally {
    await limited.close()
  }
})
