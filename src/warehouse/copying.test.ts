import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { markedCopy, untilNothingIsCopied } from './copying.ts'

setDefaultTimeout(60_000)

const ROWS = 4

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
  await live.warehouse.command('CREATE TABLE copies (a UInt64) ENGINE = MergeTree ORDER BY a')
})
afterAll(() => live.stop())

test('a copy of rows is seen while it runs, and waited for; what holds the lock is asked meanwhile', async () => {
  const { warehouse } = live
  const copying = warehouse.command(
    markedCopy(
      `INSERT INTO copies SELECT number + sleepEachRow(0.3) FROM numbers(${ROWS}) SETTINGS max_block_size = 1`,
    ),
  )
  await waitFor(
    'the copy to run',
    async () => {
      const rows = await warehouse.query(
        "SELECT 1 FROM system.processes WHERE query LIKE '%INTO copies SELECT%'",
      )
      return rows.length > 1
    },
    10_000,
  )
  let held = 0
  await untilNothingIsCopied(warehouse, async () => void held++)
  expect(held).toBeGreaterThan(1)
  expect(await warehouse.query('SELECT count() AS n FROM copies')).toEqual([{ n: ROWS }])
  await copying
})

test('the end of the lock ends the wait', async () => {
  const lost = untilNothingIsCopied(live.warehouse, () => Promise.reject(new Error('lost')))
  await expect(lost).rejects.toThrow('lost')
})
