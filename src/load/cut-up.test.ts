/** An insert that ClickHouse has no memory for, cut up by whoever has it, while a try of the whole may still land (I1, I2). */
import { describe, expect, test } from 'bun:test'
import { waitFor } from '../../test/support/wait-for.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { intentOf, takeHeads } from './batch.ts'
import { bench, benchForEachTest, servers, stored } from './bench.fixture.ts'
import { keepPart } from './intent.ts'
import { batchOf, land, leaveBehind, monthsInTurn } from './left-behind.fixture.ts'
import { loadMetrics } from './metrics.ts'

benchForEachTest()

const ROWS = 1_000
const NOTE = 'x'.repeat(8_000)

/** What all rows need, is not there; what a piece of them needs, is. */
const limited = (bytes = 24_000_000) =>
  openWarehouse({ url: `${servers.warehouse.url}/?clickhouse_setting_max_memory_usage=${bytes}` })

async function sendLargeRows(months = 1): Promise<void> {
  for (const raw of bench.raw) await raw.batch(stored(ROWS / bench.raw.length), monthsInTurn(months), NOTE)
}

async function expectAllOnce(): Promise<void> {
  await bench.waitForRows(ROWS)
  await bench.waitForSettled()
  expect(await bench.stored()).toEqual({ rows: ROWS, sources: ROWS })
  expect((await bench.intents()).repair).toBeUndefined()
}

async function childrenOf(id: string): Promise<number> {
  const [found] = await bench.sql<{ n: number }[]>`
    SELECT count(*)::int AS n FROM load_intent WHERE parent = ${id}`
  return found!.n
}

describe('left behind by a loader that died: its heir cuts it up, and a try of the whole lands', () => {
  for (const [when, step] of [
    ['when it is written that it is cut', 'split'],
    ['when the first rows are in', 'inserted'],
    ['at last', undefined],
  ] as const)
    test(when, async () => {
      await sendLargeRows()
      const { id, batch } = await leaveBehind()
      const warehouse = limited()
      let landed = false
      try {
        await bench.load({
          warehouse,
          async reached(at) {
            if (at !== step || landed) return
            landed = true
            await land(batch, id)
          },
        })
        await expectAllOnce()
        if (step === undefined) await land(batch, id)
        else expect(landed).toBe(true)
        expect(await bench.stored()).toEqual({ rows: ROWS, sources: ROWS })
        expect(await childrenOf(id)).toBeGreaterThan(0)
      } finally {
        await warehouse.close()
      }
    })
})

test('its owner was late, and another has cut it up: it sends nothing of the whole', async () => {
  let cut: string | undefined
  await sendLargeRows(2)
  await bench.load({
    async reached(step) {
      if (step !== 'intent_written' || cut !== undefined) return
      const [open] = await bench.sql<{ id: string }[]>`
        SELECT id FROM load_intent WHERE table_name = 'events' AND state = 'open'`
      if (!open) return
      cut = open.id
      const { heads, others } = takeHeads(await batchOf(cut))
      expect(heads.rows).toHaveLength(2)
      const children = [intentOf(others, Bun.randomUUIDv7(), cut)]
      await bench.sql.begin((tx) => keepPart(tx, intentOf(heads, open.id), children))
    },
  })
  await expectAllOnce()
  expect(cut).toBeDefined()
})

test('pieces keep the distance that cuts keep', async () => {
  const EVERY_MS = 400
  const warehouse = limited()
  try {
    await sendLargeRows()
    const { id } = await leaveBehind()
    await bench.load({
      warehouse,
      settings: { loadFlushMs: EVERY_MS, loadBusyPercent: 100, loadMemoryMb: 64 },
    })
    await expectAllOnce()
    const pieces = await bench.sql<{ gap_ms: number | null }[]>`
      SELECT (extract(epoch FROM settled_at - lag(settled_at) OVER (ORDER BY settled_at)) * 1000)::float8 AS gap_ms
      FROM load_intent WHERE parent = ${id} ORDER BY settled_at`
    expect(pieces.length).toBeGreaterThan(1)
    for (const { gap_ms } of pieces) if (gap_ms !== null) expect(gap_ms).toBeGreaterThan(EVERY_MS / 2)
  } finally {
    await warehouse.close()
  }
})

describe('an insert into several months', () => {
  test('only a part of them landed: the others follow, and nothing is there twice', async () => {
    await sendLargeRows(2)
    const { id, batch } = await leaveBehind()
    const rows = batch.rows.filter((row) => row.month === batch.rows[0]!.month)
    expect(rows).toHaveLength(ROWS / 2)
    await land({ ...batch, rows }, id)
    await bench.load()
    await expectAllOnce()
    expect(await childrenOf(id)).toBe(0)
  })

  test('no memory for all at once: each goes alone, under the same token', async () => {
    const MONTHS = 10
    await bench.raw[0]!.batch(stored(20), monthsInTurn(MONTHS))
    const { id, batch } = await leaveBehind()
    const warehouse = limited(64_000_000)
    try {
      await bench.load({ warehouse })
      await bench.waitForRows(20)
      await bench.waitForSettled()
      expect(await childrenOf(id)).toBe(0)
      await land(batch, id)
      expect(await bench.stored()).toEqual({ rows: 20, sources: 20 })
    } finally {
      await warehouse.close()
    }
  })
})

test('a loader that finds no memory says so while it waits', async () => {
  const warehouse = limited(1_000)
  try {
    await bench.raw[0]!.batch(stored(5))
    const load = await bench.load({ warehouse })
    await waitFor('unreadiness', async () => (await load.notReady()) !== undefined, 20_000)
    expect(await load.notReady()).toMatch(/^ClickHouse has no memory to take rows: /)
    const { values } = await loadMetrics.blocked.get()
    expect(values.find(({ labels }) => labels.table === 'events')?.value).toBe(1)
  } finally {
    await warehouse.close()
  }
})
