/** What Postgres hears of the spools, and that capture does not mind when it hears nothing. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { listSpools, openPostgres, type SpoolReport } from '../../catalog/index.ts'
import { event, openTarget, openTestWriter, type Target, tempDir } from './detour.fixture.ts'

setDefaultTimeout(60_000)

let postgres: TestPostgres
let dir: ReturnType<typeof tempDir>
let target: Target
beforeAll(async () => {
  postgres = await startTestPostgres()
})
afterAll(() => postgres.stop())
beforeEach(async () => {
  dir = tempDir()
  target = await openTarget(join(dir.path, 'log'))
})
afterEach(async () => {
  await target.close()
  dir.remove()
})

async function heard(what: string, holds: (spools: SpoolReport[]) => boolean): Promise<SpoolReport[]> {
  let spools: SpoolReport[] = []
  const look = async () => {
    spools = await listSpools(postgres.sql)
    return holds(spools)
  }
  await waitFor(what, look, 20_000, () => JSON.stringify(spools))
  return spools
}

test('a spool is registered with its counts, found by the next process, and forgotten when it is drained', async () => {
  const { sql } = postgres
  const first = await openTestWriter({ dir: dir.path, log: target.log, sql })
  const [born] = await heard('the spool', ([spool]) => spool?.state === 'direct')
  expect(born).toMatchObject({ accepted: 0, drained: 0, bytes: 0 })
  expect(born!.folder).toContain(dir.path)
  target.disk.holding = true
  for (let n = 0; n < 10; n++) await first.writer.write([event(n)])
  await first.close(performance.now() + 1_000)
  const [left] = await heard('what is left', ([spool]) => spool?.accepted === 10)
  expect(left).toMatchObject({ id: born!.id, drained: 0, state: 'spooling' })
  expect(left!.bytes).toBeGreaterThan(0)

  const second = await openTestWriter({ dir: dir.path, log: target.log, sql })
  target.disk.release()
  const [drained] = await heard('an empty spool', ([spool]) => spool?.state === 'direct')
  expect(drained).toMatchObject({ id: born!.id, accepted: 10, drained: 10, bytes: 0 })
  await second.close(performance.now() + 5_000)
  expect(await listSpools(sql)).toEqual([])
})

test('with Postgres away nothing waits for it, and an empty spool stays until it is back', async () => {
  const sql = openPostgres({ url: { socketDir: '/nonexistent' }, name: 'test', connectionsMax: 1 })
  const first = await openTestWriter({ dir: dir.path, log: target.log, sql })
  target.disk.holding = true
  for (let n = 0; n < 10; n++) await first.writer.write([event(n)])
  target.disk.release()
  expect(await first.close(performance.now() + 10_000)).toEqual({ unanswered: 0, spooled: 0 })
  await sql.end({ timeout: 1 })
  expect([...new Bun.Glob('*/spool.json').scanSync(join(dir.path, 'spool'))]).toHaveLength(1)

  const second = await openTestWriter({ dir: dir.path, log: target.log, sql: postgres.sql })
  await heard('the spool', ([spool]) => spool?.accepted === 10)
  await second.close(performance.now() + 10_000)
  expect([...new Bun.Glob('*/spool.json').scanSync(join(dir.path, 'spool'))]).toEqual([])
  expect(await listSpools(postgres.sql)).toEqual([])
})
