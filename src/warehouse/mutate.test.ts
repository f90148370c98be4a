/** Changes of stored rows on the real engine: one that is at work is found again, another's is told and not taken for ours. */
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { changeRows, type RowChange, type Warehouse } from './index.ts'

setDefaultTimeout(60_000)

let server: TestWarehouse
let warehouse: Warehouse
beforeAll(async () => {
  server = await startTestWarehouse()
  warehouse = server.warehouse
})
afterAll(() => server.stop())
beforeEach(async () => {
  await warehouse.command('SYSTEM START MERGES outcomes')
  await warehouse.command('TRUNCATE TABLE outcomes')
  await warehouse.command(
    `INSERT INTO outcomes (team_id, distinct_id, timestamp, _offset)
     SELECT 1, toString(number), toDateTime64('2026-03-04 05:06:07', 3), number FROM numbers(10)`,
  )
})

const change = (where: string): RowChange => ({ table: 'outcomes', month: '202603', what: 'DELETE', where })

async function mutations(like: string): Promise<number> {
  const [row] = await warehouse.query<{ n: number }>(
    `SELECT count() AS n FROM system.mutations WHERE table = 'outcomes' AND position(command, {like:String}) > 0`,
    { like },
  )
  return row!.n
}

test('what goes is gone, by one mutation; nothing is started when nothing is left', async () => {
  const three = change("distinct_id = '3'")
  expect(await changeRows(warehouse, three, () => {})).toBe(1)
  expect(await changeRows(warehouse, three, () => {})).toBe(0)
  expect(await mutations("'3'")).toBe(1)
  expect(await warehouse.query('SELECT count() AS n FROM outcomes')).toEqual([{ n: 9 }])
})

test('a change that was cut off is waited for, not started again', async () => {
  const four = change("distinct_id = '4'")
  await warehouse.command('SYSTEM STOP MERGES outcomes')
  await expect(changeRows(warehouse, four, () => {}, 300)).rejects.toMatchObject({
    code: 'HR_WAREHOUSE_WAITS',
  })
  await expect(changeRows(warehouse, four, () => {}, 300)).rejects.toMatchObject({
    code: 'HR_WAREHOUSE_WAITS',
  })
  await warehouse.command('SYSTEM START MERGES outcomes')
  await changeRows(warehouse, four, () => {})
  expect(await mutations("'4'")).toBe(1)
})

test("another's mutation that fails is named, and its end is not taken for ours", async () => {
  await warehouse.command(
    `ALTER TABLE outcomes UPDATE event = toString(throwIf(distinct_id = '5', 'told to fail')) WHERE 1 SETTINGS mutations_sync = 0`,
  )
  const failing = `SELECT count() AS n FROM system.mutations WHERE table = 'outcomes' AND position(latest_fail_reason, 'told') > 0`
  await waitFor('failure', async () => (await warehouse.query<{ n: number }>(failing))[0]!.n > 0, 20_000)
  const said: string[] = []
  const six = change("distinct_id = '6'")
  await expect(changeRows(warehouse, six, (sentence) => said.push(sentence), 500)).rejects.toMatchObject({
    code: 'HR_WAREHOUSE_WAITS',
  })
  expect(said.at(-1)).toMatch(/another change is at work: .*throwIf.*told to fail/)
  expect(await mutations("'6'")).toBe(1)
  await warehouse.command(
    `KILL MUTATION WHERE table = 'outcomes' AND NOT is_done AND position(command, 'throwIf') > 0 SYNC`,
  )
  await changeRows(warehouse, six, () => {})
  expect(await mutations("'6'")).toBe(1)
  expect(await warehouse.query('SELECT count() AS n FROM outcomes')).toEqual([{ n: 9 }])
})
