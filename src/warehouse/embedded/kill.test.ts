/** What a kill at any moment leaves behind: whole blocks, tokens that hold, a folder that opens again (I2). */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startWarehouseProcess } from '../../../test/support/warehouse.ts'
import { EVENTS } from '../../event/index.ts'
import { openWarehouse } from '../client.ts'
import { migrateWarehouse } from '../migrate.ts'
import { eventRow, TEST_LOG_ID } from '../rows.fixture.ts'
import { presentSources } from '../sources.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

const MONTHS = 3
const ROWS_PER_MONTH = 4000
const KILLS = 6

/** Cut `n`: the same rows whenever it is made again. */
function cut(n: number): Uint8Array[] {
  return Array.from({ length: MONTHS * ROWS_PER_MONTH }, (_, i) =>
    EVENTS.encode(eventRow(i, { _partition: n, timestamp: Date.UTC(2026, i % MONTHS, 1) + i })),
  )
}

test('inserts that are killed at random moments and sent again are stored once, in whole blocks', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-kill-'))
  let child = await startWarehouseProcess(dir)
  try {
    let setUp = openWarehouse({ url: child.url })
    await migrateWarehouse(setUp)
    await setUp.close()
    let broken = 0
    for (let n = 0; n < KILLS; n++) {
      const warehouse = openWarehouse({ url: child.url })
      const rows = cut(n)
      // One insert before, so that the kill also falls behind an answer; how far the next one comes is chance.
      await warehouse.insertRows({ table: EVENTS, rows: rows.slice(0, 100), token: `warm ${n}` })
      const insert = warehouse.insertRows({ table: EVENTS, rows, token: `cut ${n}` }).then(
        () => undefined,
        (error) => error,
      )
      const killAt = performance.now() + (n / KILLS) * 250
      while (performance.now() < killAt) await new Promise((resolve) => setImmediate(resolve))
      await child.kill('SIGKILL')
      const error = await insert
      if (error) {
        expect(error.code).toBe('HR_WAREHOUSE_UNAVAILABLE')
        broken++
      }
      await warehouse.close()

      child = await startWarehouseProcess(dir)
      const again = openWarehouse({ url: child.url })
      const perMonth = await again.query<{ rows: number }>(
        `SELECT uniqExact(_offset) AS rows FROM events WHERE _partition = {n:UInt16} AND _offset >= 100 GROUP BY toYYYYMM(timestamp)`,
        { n },
      )
      // A block is there as a whole or not at all.
      for (const { rows } of perMonth) expect(rows).toBeGreaterThanOrEqual(ROWS_PER_MONTH - 100)
      await again.insertRows({ table: EVENTS, rows, token: `cut ${n}` })
      await again.insertRows({ table: EVENTS, rows, token: `cut ${n}` })
      const [found] = await presentSources(again, [
        { logId: TEST_LOG_ID, partition: n, from: 100, to: 1_000_000 },
      ])
      expect(found).toMatchObject({ rows: rows.length - 100, sources: rows.length - 100 })
      await again.close()
    }
    expect(broken).toBeGreaterThan(0)
    setUp = openWarehouse({ url: child.url })
    const [all] = await presentSources(setUp, [{ logId: TEST_LOG_ID, partition: 0, from: 0, to: 1_000_000 }])
    expect(all?.sources).toBe(MONTHS * ROWS_PER_MONTH)
    await setUp.close()
  } finally {
    await child.kill('SIGTERM')
    rmSync(dir, { recursive: true, force: true })
  }
}, 120_000)

test('a token holds over a clean stop, which is done within seconds', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-stop-'))
  try {
    const rows = cut(0)
    for (let i = 0; i < 3; i++) {
      const child = await startWarehouseProcess(dir)
      const warehouse = openWarehouse({ url: child.url })
      await migrateWarehouse(warehouse)
      await warehouse.insertRows({ table: EVENTS, rows, token: 'kept' })
      const [found] = await presentSources(warehouse, [
        { logId: TEST_LOG_ID, partition: 0, from: 0, to: 1_000_000 },
      ])
      expect(found).toMatchObject({ rows: rows.length, sources: rows.length })
      await warehouse.close()
      const started = performance.now()
      expect(await child.kill('SIGTERM')).toBe(0)
      expect(performance.now() - started).toBeLessThan(5000)
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}, 60_000)

test('a clean stop lets a running insert finish', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-stop-'))
  const child = await startWarehouseProcess(dir)
  try {
    const warehouse = openWarehouse({ url: child.url })
    await migrateWarehouse(warehouse)
    await warehouse.command('CREATE TABLE slow (a UInt64) ENGINE = MergeTree ORDER BY a')
    const runs = async (count: number) => {
      const deadline = performance.now() + 10_000
      while (!(await (await fetch(`${child.url}/metrics`)).text()).includes(`statements_running ${count}`)) {
        if (performance.now() > deadline) throw new Error(`there were never ${count} statements at work`)
      }
    }
    // The gauge is set once a second: first it must have forgotten the statements before.
    await runs(0)
    const running = warehouse.command('INSERT INTO slow SELECT number + sleep(1.5) FROM numbers(10)')
    await runs(1)
    const stopped = child.kill('SIGTERM')
    await running
    expect(await stopped).toBe(0)
    await warehouse.close()
  } finally {
    await child.kill('SIGTERM')
    rmSync(dir, { recursive: true, force: true })
  }
}, 30_000)

test('a folder that another process has open is refused with one sentence', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-lock-'))
  const child = await startWarehouseProcess(dir)
  try {
    await expect(startWarehouseProcess(dir)).rejects.toThrow(
      /^refused HR_WAREHOUSE_FOLDER_IN_USE the warehouse folder \S+ is in use by another process; stop that one or choose another folder$/,
    )
    expect(await (await fetch(`${child.url}/ping`)).text()).toBe('Ok.\n')
  } finally {
    await child.kill('SIGTERM')
    rmSync(dir, { recursive: true, force: true })
  }
}, 30_000)

test('an address that is taken is refused with one sentence', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-address-'))
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Response('') })
  try {
    await expect(startWarehouseProcess(dir, `127.0.0.1:${server.port}`)).rejects.toThrow(
      `refused HR_WAREHOUSE_ADDRESS the warehouse cannot listen on 127.0.0.1:${server.port}: `,
    )
  } finally {
    await server.stop(true)
    rmSync(dir, { recursive: true, force: true })
  }
}, 30_000)

test('a statement without end does not hold up a stop', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-endless-'))
  const child = await startWarehouseProcess(dir)
  try {
    const endless = fetch(`${child.url}/?max_block_size=1`, {
      method: 'POST',
      body: 'SELECT sleep(1) FROM numbers(50)',
    }).catch(() => undefined)
    const deadline = performance.now() + 10_000
    while (!(await (await fetch(`${child.url}/metrics`)).text()).includes('statements_running 1')) {
      if (performance.now() > deadline) throw new Error('the statement never ran')
    }
    const started = performance.now()
    expect(await child.kill('SIGTERM')).toBe(0)
    expect(performance.now() - started).toBeLessThan(10_000)
    await endless
  } finally {
    await child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
}, 60_000)
