/** Inserts on the real engine: tokens, months, limits, refusals, and the sources that are there afterwards. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTcpProxy } from '../../test/support/tcp-proxy.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { EVENTS, HeadraceError, sourceHash } from '../event/index.ts'
import { INSERT_BYTES_MAX, INSERT_ROWS_MAX, insertSettings, openWarehouse } from './client.ts'
import { warehouseError } from './errors.ts'
import { eventRow, eventRows, TEST_LOG_ID } from './rows.fixture.ts'
import { presentPlaces, presentSources } from './sources.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
})
afterAll(() => live.stop())

let nextPartition = 1
/** Every test has a raw partition of its own in the one table. */
const freshPartition = () => nextPartition++

async function present(partition: number, from = 0, to = 1_000_000) {
  const [found] = await presentSources(live.warehouse, [{ logId: TEST_LOG_ID, partition, from, to }])
  return found!
}

async function refusal(call: Promise<unknown>): Promise<HeadraceError> {
  try {
    await call
  } catch (error) {
    if (error instanceof HeadraceError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

/** `count` rows that lie in `months` months, in turn. */
function rowsOverMonths(partition: number, count: number, months: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) =>
    EVENTS.encode(eventRow(i, { _partition: partition, timestamp: Date.UTC(2016, i % months, 3) })),
  )
}

describe('a token', () => {
  for (const months of [1, 5, 50])
    test(`stores the rows of ${months} month(s) once, however often they are sent`, async () => {
      const partition = freshPartition()
      const rows = rowsOverMonths(partition, 200, months)
      for (let i = 0; i < 3; i++)
        await live.warehouse.insertRows({ table: EVENTS, rows, token: `token-${months}` })
      expect(await present(partition)).toMatchObject({ rows: 200, sources: 200 })
    })

  test('sent twice at the same time stores the rows once', async () => {
    const partition = freshPartition()
    const rows = eventRows(0, 5000, { _partition: partition })
    const insert = () => live.warehouse.insertRows({ table: EVENTS, rows, token: 'at once' })
    await Promise.all([insert(), insert(), insert()])
    expect(await present(partition)).toMatchObject({ rows: 5000, sources: 5000 })
  })

  test('is of its table: two tables may use the same', async () => {
    const partition = freshPartition()
    const rows = eventRows(0, 3, { _partition: partition })
    await live.warehouse.command('CREATE TABLE other AS events')
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'shared' })
    await live.warehouse.insertRows({ table: { ...EVENTS, name: 'other' }, rows, token: 'shared' })
    expect(await live.warehouse.query('SELECT count() AS rows FROM other')).toEqual([{ rows: 3 }])
    await live.warehouse.command('DROP TABLE other')
    expect(await present(partition)).toMatchObject({ rows: 3 })
  })

  test('another token for the same rows gives copies, which replacing removes', async () => {
    const partition = freshPartition()
    const rows = eventRows(0, 100, { _partition: partition })
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'first attempt' })
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'repair' })
    const found = await present(partition)
    expect(found.sources).toBe(100)
    const [final] = await live.warehouse.query<{ rows: number }>(
      'SELECT count() AS rows FROM events FINAL WHERE _partition = {partition:UInt16}',
      { partition },
    )
    expect(final?.rows).toBe(100)
  })
})

describe('one cut is one block per month', () => {
  test('the largest cut becomes one part', async () => {
    const partition = freshPartition()
    await live.warehouse.command('CREATE TABLE one_block AS events')
    await live.warehouse.command('SYSTEM STOP MERGES one_block')
    const row = EVENTS.encode(eventRow(0, { _partition: partition }))
    const rows = Array.from({ length: INSERT_ROWS_MAX }, (_, i) => {
      const copy = Buffer.from(row)
      // Same layout for every row, so the offset can be written in place.
      copy.writeUInt32LE(i, copy.length - 1 - 4 - 2 - 8)
      return copy
    })
    expect(rows.length * row.length).toBeLessThan(INSERT_BYTES_MAX)
    await live.warehouse.insertRows({ table: { ...EVENTS, name: 'one_block' }, rows, token: 'largest' })
    const parts = await live.warehouse.query(
      "SELECT count() AS parts, sum(rows) AS rows FROM system.parts WHERE table = 'one_block' AND active",
    )
    expect(parts).toEqual([{ parts: 1, rows: INSERT_ROWS_MAX }])
    const [exact] = await live.warehouse.query<{ offsets: number }>(
      'SELECT uniqExact(_offset) AS offsets FROM one_block',
    )
    expect(exact?.offsets).toBe(INSERT_ROWS_MAX)
    await live.warehouse.command('DROP TABLE one_block')
  }, 60_000)

  test('the settings that could cut it otherwise are pinned', () => {
    const settings = insertSettings('t', 'single')
    expect(settings).toMatchObject({
      async_insert: 0,
      max_insert_threads: '1',
      input_format_parallel_parsing: 0,
    })
    expect(Number(settings.max_insert_block_size)).toBeGreaterThan(INSERT_ROWS_MAX)
    expect(Number(settings.min_insert_block_size_rows)).toBeGreaterThan(INSERT_ROWS_MAX)
    expect(Number(settings.min_insert_block_size_bytes)).toBeGreaterThan(8 * INSERT_BYTES_MAX)
    expect(settings.insert_quorum).toBeUndefined()
    expect(insertSettings('t', 'replicated').insert_quorum).toBe('auto')
  })

  test('what the server does with it ends when nobody waits for it any longer', async () => {
    expect(insertSettings('t', 'single').max_execution_time).toBe(120)
    const partition = freshPartition()
    const port = Number(new URL(live.url).port)
    const proxy = await startTcpProxy({ target: { host: '127.0.0.1', port } })
    const warehouse = openWarehouse({ url: `http://127.0.0.1:${proxy.port}`, insertTimeoutMs: 1_000 })
    // The server has begun, and the rest comes when its client has given up.
    let sent = 0
    proxy.onRequest = (pair, chunk) => {
      sent += chunk.length
      if (sent > 2_000_000) pair.hold()
    }
    try {
      const rows = Array.from({ length: 100 }, (_, i) =>
        EVENTS.encode(eventRow(i, { _partition: partition, properties: `{"n":"${'x'.repeat(50_000)}"}` })),
      )
      const insert = warehouse.insertRows({ table: EVENTS, rows, token: 'late' })
      expect(await refusal(insert)).toMatchObject({ code: 'HR_WAREHOUSE_UNAVAILABLE' })
    } finally {
      await warehouse.close()
      await proxy.close()
    }
    expect(await present(partition)).toMatchObject({ rows: 0 })
  })

  test('what is said right before the rows go keeps them back', async () => {
    const partition = freshPartition()
    const rows = eventRows(0, 10, { _partition: partition })
    const late = warehouseError('HR_WAREHOUSE_WAITS', 'late')
    const beforeRows = () => {
      throw late
    }
    const insert = () => live.warehouse.insertRows({ table: EVENTS, rows, token: 'kept back', beforeRows })
    expect(await refusal(insert())).toBe(late)
    expect(await present(partition)).toMatchObject({ rows: 0 })
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'kept back', beforeRows: () => {} })
    expect(await present(partition)).toMatchObject({ rows: 10 })
  })

  test('no rows are no insert', async () => {
    await live.warehouse.insertRows({ table: EVENTS, rows: [], token: 'none' })
  })
})

describe('refused', () => {
  test('more than 100 months in one insert: nothing is stored, and the error says to split', async () => {
    const partition = freshPartition()
    const rows = rowsOverMonths(partition, 120, 101)
    const error = await refusal(live.warehouse.insertRows({ table: EVENTS, rows, token: 'months' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_TOO_MANY_MONTHS', class: 'rejected' })
    expect((await present(partition)).rows).toBe(0)
    // Split, the halves are taken.
    await live.warehouse.insertRows({ table: EVENTS, rows: rows.slice(0, 60), token: 'months-1' })
    await live.warehouse.insertRows({ table: EVENTS, rows: rows.slice(60), token: 'months-2' })
    expect((await present(partition)).rows).toBe(120)
  })

  test('a row that ends early: nothing of the insert is stored, and good rows go in under the same token', async () => {
    const partition = freshPartition()
    const rows = eventRows(0, 50, { _partition: partition })
    const cut = [...rows.slice(0, 49), rows[49]!.subarray(0, 60)]
    const error = await refusal(live.warehouse.insertRows({ table: EVENTS, rows: cut, token: 'cut row' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_REFUSED', class: 'rejected' })
    expect(error.message).toContain('CANNOT_READ_ALL_DATA')
    expect((await present(partition)).rows).toBe(0)
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'cut row' })
    expect((await present(partition)).rows).toBe(50)
  })

  test('a row that breaks a constraint', async () => {
    await live.warehouse.command('CREATE TABLE strict AS events')
    await live.warehouse.command("ALTER TABLE strict ADD CONSTRAINT named CHECK event != ''")
    const error = await refusal(
      live.warehouse.insertRows({
        table: { ...EVENTS, name: 'strict' },
        rows: [EVENTS.encode(eventRow(1, { event: '' }))],
        token: 'constraint',
      }),
    )
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_REFUSED', class: 'rejected' })
    await live.warehouse.command('DROP TABLE strict')
  })

  test('more rows than one block holds, before anything is sent', async () => {
    const rows = new Array<Uint8Array>(INSERT_ROWS_MAX + 1).fill(new Uint8Array(1))
    const error = await refusal(live.warehouse.insertRows({ table: EVENTS, rows, token: 'rows' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_TOO_LARGE', class: 'rejected' })
  })

  test('a table that no migration has made yet can come later', async () => {
    const table = { ...EVENTS, name: 'later' }
    const error = await refusal(live.warehouse.insertRows({ table, rows: eventRows(0, 1), token: 'later' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_SCHEMA_BEHIND', class: 'retriable' })
  })

  test('a column that no migration has made yet can come later', async () => {
    await live.warehouse.command('CREATE TABLE narrow (event String) ENGINE = MergeTree ORDER BY event')
    const table = { ...EVENTS, name: 'narrow' }
    const error = await refusal(live.warehouse.insertRows({ table, rows: eventRows(0, 1), token: 'narrow' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_SCHEMA_BEHIND', class: 'retriable' })
    await live.warehouse.command('DROP TABLE narrow')
  })

  test('nobody listens: retriable, and ping says so', async () => {
    const server = Bun.serve({ port: 0, fetch: () => new Response('') })
    const url = `http://127.0.0.1:${server.port}`
    await server.stop(true)
    const warehouse = openWarehouse({ url })
    const error = await refusal(warehouse.insertRows({ table: EVENTS, rows: eventRows(0, 1), token: 'x' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_UNAVAILABLE', class: 'retriable' })
    expect(await warehouse.ping()).toContain('does not answer')
    await warehouse.close()
  })

  test('somebody listens but does not answer: retriable after the time-out', async () => {
    const server = Bun.serve({ port: 0, fetch: () => new Promise<Response>(() => {}) })
    const warehouse = openWarehouse({
      url: `http://127.0.0.1:${server.port}`,
      insertTimeoutMs: 200,
      queryTimeoutMs: 200,
    })
    const error = await refusal(warehouse.insertRows({ table: EVENTS, rows: eventRows(0, 1), token: 'x' }))
    expect(error).toMatchObject({ code: 'HR_WAREHOUSE_UNAVAILABLE', class: 'retriable' })
    expect((await refusal(warehouse.query('SELECT 1'))).code).toBe('HR_WAREHOUSE_UNAVAILABLE')
    await warehouse.close()
    await server.stop(true)
  })
})

describe('present sources', () => {
  test('count, distinct places and hash sum equal what sourceHash says', async () => {
    const partition = freshPartition()
    const places = [0, 1, 2, 3, 9, 10, 99, 100, 12_345, 4_294_967_296, Number.MAX_SAFE_INTEGER - 1].flatMap(
      (offset) => [0, 1, 65_535].map((sub) => ({ offset, sub })),
    )
    const rows = places.map(({ offset, sub }) =>
      EVENTS.encode(eventRow(1, { _partition: partition, _offset: offset, _sub: sub })),
    )
    await live.warehouse.insertRows({ table: EVENTS, rows, token: 'places' })
    // A copy under another token must change `rows` alone.
    await live.warehouse.insertRows({ table: EVENTS, rows: rows.slice(0, 5), token: 'copies' })
    const found = await present(partition, 0, Number.MAX_SAFE_INTEGER)
    expect(found.sources).toBe(places.length)
    expect(found.rows).toBeGreaterThanOrEqual(places.length)
    expect(found.hashSum).toBe(places.reduce((sum, place) => sum + BigInt(sourceHash(place)), 0n))
    const range = { logId: TEST_LOG_ID, partition, from: 0, to: Number.MAX_SAFE_INTEGER }
    expect(await presentPlaces(live.warehouse, range, 1000)).toEqual(places)
    expect(await presentPlaces(live.warehouse, range, 2)).toEqual(places.slice(0, 2))
  })

  test('a range holds its first offset and not its end; other partitions and logs are not counted', async () => {
    const [partition, other] = [freshPartition(), freshPartition()]
    await live.warehouse.insertRows({
      table: EVENTS,
      rows: [...eventRows(0, 20, { _partition: partition }), ...eventRows(0, 20, { _partition: other })],
      token: 'ranges',
    })
    const ranges = [
      { logId: TEST_LOG_ID, partition, from: 5, to: 10 },
      { logId: TEST_LOG_ID, partition, from: 20, to: 30 },
      { logId: '00000000-0000-4000-8000-000000000000', partition, from: 0, to: 30 },
    ]
    const found = await presentSources(live.warehouse, ranges)
    expect(found.map(({ sources }) => sources)).toEqual([5, 0, 0])
    expect(found[1]).toEqual({ rows: 0, sources: 0, hashSum: 0n })
  })

  test('a range of a large table is read in source order, not by scanning it', async () => {
    const partition = freshPartition()
    await live.warehouse.insertRows({
      table: EVENTS,
      rows: eventRows(0, 50_000, { _partition: partition }),
      token: 'many',
    })
    const plan = await live.warehouse.query<{ explain: string }>(
      'EXPLAIN projections = 1, indexes = 1 SELECT _offset, _sub, count() FROM events WHERE _log_id = {log:UUID} AND _partition = {partition:UInt16} AND _offset >= 100 AND _offset < 200 GROUP BY _offset, _sub',
      { log: TEST_LOG_ID, partition },
    )
    expect(plan.map(({ explain }) => explain).join('\n')).toContain('by_source')
  })
})

test('a question may take longer than an insert may', async () => {
  const quick = openWarehouse({ url: live.url, insertTimeoutMs: 200 })
  try {
    expect(await quick.query('SELECT sleep(1) AS slept')).toEqual([{ slept: 0 }])
  } finally {
    await quick.close()
  }
})
