/** Inserts into several months, of which some are refused, or were sent alone and are on their way still (I1, I2). */
import { describe, expect, test } from 'bun:test'
import { EVENT_TIME_MS } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { encodeRowHeader, OUTCOMES, TOPICS } from '../event/index.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { bench, benchForEachTest, servers } from './bench.fixture.ts'
import { land, leaveBehind, monthsInTurn, sendBatch } from './left-behind.fixture.ts'

benchForEachTest()

const MONTHS = 3
const ROWS = 60
/** What all rows of a test need, is not there; what a piece of them needs, is. */
const LIMIT_BYTES = 40_000_000

async function expectOnce(rows: number): Promise<void> {
  await bench.waitForRows(rows)
  await bench.waitForSettled()
  expect(await bench.stored()).toEqual({ rows, sources: rows })
  expect((await bench.intents()).repair).toBeUndefined()
}

const childrenOf = (id: string) =>
  bench.sql<{ rows: number; ranges: unknown[] }[]>`SELECT rows, ranges FROM load_intent WHERE parent = ${id}`

describe('left behind by a loader that died: a row is refused', () => {
  for (const [when, bad, early] of [
    ['a month alone lands at last', [2], []],
    ['a month alone was there already', [2], [0]],
    ['of two months', [1, 5], []],
    ['of all months', [0, 1, 2], []],
  ] as const)
    test(`${when}: only refused months go on, and nothing is there twice`, async () => {
      await sendBatch(0, ROWS, [...bad], monthsInTurn(MONTHS))
      const { id, batch } = await leaveBehind()
      const month = (n: number) => ({ rows: batch.rows.filter(({ source }) => source.offset % MONTHS === n) })
      for (const n of early) await land(month(n), id)
      await bench.load()
      await expectOnce(ROWS - bad.length)
      const badMonths = new Set(bad.map((offset) => offset % MONTHS))
      for (let n = 0; n < MONTHS; n++) if (!badMonths.has(n)) await land(month(n), id)
      expect(await bench.stored()).toEqual({ rows: ROWS - bad.length, sources: ROWS - bad.length })
      const children = await childrenOf(id)
      const rows = children.reduce((sum, child) => sum + child.rows, 0)
      expect([children.length, rows]).toEqual([2, ROWS])
      for (const { ranges } of children) expect(ranges.length).toBeLessThanOrEqual(bench.raw.length)
    })
})

test('the months of other tables are not those of their headers: no row is taken for a copy', async () => {
  const COUNT = 10
  const note = 'x'.repeat(150_000)
  const place = (offset: number) => ({ logId: bench.rawId, partition: 0, offset, sub: 0 })
  const month = (n: number) => monthsInTurn(COUNT + 1)(n)
  // Each month of the headers has rows of two months of the table, the second of which is the first one of the next.
  await bench.producer.send(
    Array.from({ length: 10 * COUNT }, (_, offset) => {
      const n = offset % COUNT
      const second = offset >= 5 * COUNT ? 1 : 0
      const source = place(offset)
      return {
        topic: TOPICS.outcomes,
        partition: 0,
        header: encodeRowHeader({
          source,
          prev: undefined,
          teamId: 1,
          timestampMs: month(n),
          restamped: false,
        }),
        value: OUTCOMES.encode({
          team_id: 1,
          uuid: bench.rawId,
          event: '$pageview',
          distinct_id: note,
          state: 'dropped',
          reason: 'test',
          first_source: '',
          timestamp: month(n + second),
          _log_id: source.logId,
          _partition: source.partition,
          _offset: source.offset,
          _sub: source.sub,
        }),
      }
    }),
  )
  const limit = 'clickhouse_setting_max_memory_usage'
  const warehouse = openWarehouse({ url: `${servers.warehouse.url}/?${limit}=${LIMIT_BYTES}` })
  const found = async () => {
    const [row] = await bench.warehouse.query<{ n: number; months: number }>(
      `SELECT uniqExact(_offset) AS n, uniqExact(toYYYYMM(timestamp)) AS months FROM outcomes
       WHERE _log_id = {id:UUID} AND timestamp < fromUnixTimestamp64Milli({to:Int64})`,
      { id: bench.rawId, to: EVENT_TIME_MS + 1 },
    )
    return row!
  }
  try {
    await leaveBehind(TOPICS.outcomes)
    await bench.load({ warehouse })
    await waitFor('the insert to be settled', async () => !(await bench.intents()).open, 20_000)
    expect(await found()).toEqual({ n: 10 * COUNT, months: COUNT + 1 })
  } finally {
    await warehouse.close()
  }
})
