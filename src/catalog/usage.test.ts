import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { startEmbeddedPostgres } from './embedded/index.ts'
import { openPostgres } from './postgres.ts'
import { createProject } from './projects.ts'
import { listUsage, ProjectUsage } from './usage.ts'

setDefaultTimeout(60_000)

const NEVER = 2 ** 30
const NOVEMBER = Date.UTC(2026, 10, 30, 23, 59, 59, 999)
const DECEMBER = NOVEMBER + 1

let server: TestPostgres
let team: number
beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`TRUNCATE project_usage, usage_writer, project`
  team = (await createProject(server.sql, { name: 'shop', token: 'shop' })).teamId
})
afterAll(() => server.stop())

async function rows() {
  return (await listUsage(server.sql)).map(({ month, stored, refused }) => ({ month, stored, refused }))
}

/** Counts `stored` and `refused` events that are over. */
function count(usage: ProjectUsage, stored: number, refused = 0, nowMs = NOVEMBER): void {
  const meter = usage.meter(team, nowMs)
  meter.hold(stored)
  meter.settle(stored, stored, refused)
}

test('two processes know of each other after a step each, and a third one that starts knows both', async () => {
  const one = new ProjectUsage(server.sql, NEVER)
  const two = new ProjectUsage(server.sql, NEVER)
  count(one, 3)
  count(two, 5, 1)
  expect([one, two].map((usage) => usage.meter(team, NOVEMBER).used)).toEqual([3, 5])
  await one.step()
  await two.step()
  count(one, 1)
  await one.step()
  expect([one, two].map((usage) => usage.meter(team, NOVEMBER).used)).toEqual([9, 8])
  const three = new ProjectUsage(server.sql, NEVER)
  three.meter(team, NOVEMBER)
  await three.step()
  expect(three.meter(team, NOVEMBER).used).toBe(9)
  expect(await rows()).toEqual([{ month: '2026-11', stored: 9, refused: 1 }])
  for (const usage of [one, two, three]) await usage.close()
})

test('what is being stored counts until it is known what became of it', async () => {
  const usage = new ProjectUsage(server.sql, NEVER)
  const meter = usage.meter(team, NOVEMBER)
  meter.hold(4)
  expect(meter.used).toBe(4)
  await usage.step()
  expect(meter.used).toBe(4)
  meter.settle(4, 0, 0)
  expect(meter.used).toBe(0)
  await usage.close()
  expect(await rows()).toEqual([])
})

test('months begin at midnight UTC, and the one before is still added', async () => {
  const usage = new ProjectUsage(server.sql, NEVER)
  count(usage, 2, 0, NOVEMBER)
  count(usage, 3, 0, DECEMBER)
  expect(usage.meter(team, DECEMBER).used).toBe(3)
  await usage.close()
  expect(await rows()).toEqual([
    { month: '2026-12', stored: 3, refused: 0 },
    { month: '2026-11', stored: 2, refused: 0 },
  ])
})

test('what is stored while the month changes is counted for the month in which it came', async () => {
  const usage = new ProjectUsage(server.sql, NEVER)
  const meter = usage.meter(team, NOVEMBER)
  meter.hold(2)
  count(usage, 1, 0, DECEMBER)
  await usage.step()
  meter.settle(2, 2, 0)
  await usage.close()
  expect((await rows()).map(({ month, stored }) => [month, stored])).toEqual([
    ['2026-12', 1],
    ['2026-11', 2],
  ])
})

test('a step whose answer was lost is added once', async () => {
  const usage = new ProjectUsage(server.sql, NEVER)
  count(usage, 3)
  await usage.step()
  // The statement of a step as it is sent again: same writer, same sequence.
  count(usage, 4)
  const broken = new Proxy(server.sql, {
    apply: async (target, self, args: unknown[]) => {
      await Reflect.apply(target, self, args)
      throw Object.assign(new Error('the answer was lost'), { code: 'CONNECTION_CLOSED' })
    },
  })
  const losing = new ProjectUsage(broken, NEVER)
  count(losing, 10)
  await expect(losing.step()).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
  await expect(losing.step()).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
  expect(await rows()).toEqual([{ month: '2026-11', stored: 13, refused: 0 }])
  expect(losing.meter(team, NOVEMBER).used).toBe(10)
  await usage.close()
  expect(await rows()).toEqual([{ month: '2026-11', stored: 17, refused: 0 }])
  await losing.close()
})

test('while Postgres is away counting goes on with what was known, and is added later', async () => {
  const own = await startTestPostgres()
  const sql = openPostgres({ url: own.url, name: 'test', connectionsMax: 1 })
  const usage = new ProjectUsage(sql, 20)
  let again: Awaited<ReturnType<typeof startEmbeddedPostgres>> | undefined
  try {
    await own.sql`INSERT INTO project_usage VALUES (${team}, '2026-11-01', 100, 0)`
    count(usage, 1)
    await usage.step()
    await own.kill()
    count(usage, 2)
    await expect(usage.step()).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
    count(usage, 3)
    expect(usage.meter(team, NOVEMBER).used).toBe(106)
    again = await startEmbeddedPostgres({ dataDir: own.dataDir })
    await usage.close()
    const [row] = await own.sql`SELECT stored FROM project_usage WHERE team_id = ${team}`
    expect(row!.stored).toBe(106)
  } finally {
    await sql.end({ timeout: 1 })
    await again?.stop()
    await own.stop()
  }
})
