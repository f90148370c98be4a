/** What Postgres lets whom record: I2 for deliveries, when two processes hold one partition for a moment. */
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { transaction } from '../catalog/index.ts'
import {
  attach,
  type CursorMove,
  commitDetached,
  commitShared,
  ensureFences,
  followLoad,
  NOTHING,
  type Parked,
  readCursors,
  takeFence,
  writeCursors,
} from './cursors.ts'
import { countWaiting, dueRetries, settleRetries } from './retries.ts'

setDefaultTimeout(60_000)
let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startTestPostgres()
})
afterAll(() => postgres.stop())

const LOG = '01890000-0000-7000-8000-00000000000e'
const RAW = '01890000-0000-7000-8000-00000000000f'
const ID = '01890000-0000-7000-8000-0000000000d1'
const key = { logId: LOG, partition: 0 }
const topic = { logId: LOG, partitions: 1, starts: [0] }
const at = (next: number) => ({ next, last: { [RAW]: [next - 1, 0] as [number, number] } })

beforeEach(async () => {
  const { sql } = postgres
  await sql`TRUNCATE destination, delivery_cursor, delivery_fence, delivery_retry, load_fence`
  await sql`INSERT INTO destination (id, team_id, name, kind, config) VALUES (${ID}, 1, 'd', 'webhook', '{}')`
  await transaction(sql, async (tx) => {
    await ensureFences(tx, topic)
    await writeCursors(tx, ID, LOG, undefined)
  })
})

function move(more: Partial<CursorMove> = {}): CursorMove {
  return { destinationId: ID, at: undefined, counts: { ...NOTHING, seen: 1, delivered: 1 }, ...more }
}

function parked(offset: number, orderKey?: string): Parked {
  return {
    destinationId: ID,
    rawLogId: RAW,
    rawOffset: offset,
    sub: 0,
    orderKey,
    row: Buffer.from([0, 255, offset]),
    attempts: 1,
    nextInMs: 0,
    status: 500,
    response: "it's no use",
  }
}

async function delivered(): Promise<number> {
  const [row] = await postgres.sql<{ delivered: number }[]>`SELECT delivered FROM delivery_cursor`
  return row!.delivered
}

test('who was overtaken records nothing any more, neither in front nor behind', async () => {
  const { sql } = postgres
  const zombie = await takeFence(sql, key)
  await attach(sql, key, zombie, ID)
  const owner = await takeFence(sql, key)
  await expect(commitShared(sql, key, zombie, at(10), [move()], [parked(1)])).rejects.toThrow(
    'another process',
  )
  await commitShared(sql, key, owner, at(10), [move({ at: at(5) })], [])
  const detached = { ...move(), from: at(5), at: at(8) }
  await expect(commitDetached(sql, key, zombie.epoch, detached, [])).rejects.toThrow('another process')
  await commitDetached(sql, key, owner.epoch, detached, [parked(7)])
  expect(await delivered()).toBe(2)
  expect(await countWaiting(sql, key)).toEqual(new Map([[ID, { count: 1, keys: new Map() }]]))
})

test('a range is recorded once, and what goes with it only with it', async () => {
  const { sql } = postgres
  const fence = await takeFence(sql, key)
  await attach(sql, key, fence, ID)
  await commitShared(sql, key, fence, at(10), [move()], [parked(3)])
  await expect(commitShared(sql, key, fence, at(10), [move()], [parked(4)])).rejects.toThrow(
    'another process',
  )
  expect(await delivered()).toBe(1)
  expect((await countWaiting(sql, key)).get(ID)!.count).toBe(1)
})

test('a destination is attached only where the fence stands', async () => {
  const { sql } = postgres
  const fence = await takeFence(sql, key)
  await commitDetached(sql, key, fence.epoch, { ...move(), from: { next: 0, last: {} }, at: at(4) }, [])
  await expect(attach(sql, key, fence, ID)).rejects.toThrow('another process')
  await commitShared(sql, key, fence, at(4), [], [])
  await attach(sql, key, { ...at(4), epoch: fence.epoch }, ID)
  expect(await readCursors(sql, key)).toMatchObject([{ destinationId: ID, at: undefined }])
})

test('the fence follows the load only while nobody is attached', async () => {
  const { sql } = postgres
  const fence = await takeFence(sql, key)
  const last = JSON.stringify(at(50).last)
  await sql`
    INSERT INTO load_fence (log_id, partition, topic, next_offset, last) VALUES (${LOG}, 0, 'events', 50, ${last}::text::jsonb)`
  await attach(sql, key, fence, ID)
  expect(await followLoad(sql, key, fence)).toEqual(fence)
  await commitShared(sql, key, fence, at(1), [move({ at: { next: 0, last: {} } })], [])
  const moved = await followLoad(sql, key, { ...at(1), epoch: fence.epoch })
  expect(moved).toEqual({ ...at(50), epoch: fence.epoch })
})

test('an event that is tried again keeps its bytes; only the first of a key is due; it is settled once', async () => {
  const { sql } = postgres
  const fence = await takeFence(sql, key)
  await attach(sql, key, fence, ID)
  await commitShared(
    sql,
    key,
    fence,
    at(10),
    [move()],
    [parked(1, 'ada'), parked(2, 'ada'), parked(3, 'bob')],
  )
  const due = await dueRetries(sql, LOG, [0, 1], [], 10, 1_000)
  expect(due.map(({ source }) => source.offset).toSorted()).toEqual([1, 3])
  expect(due[0]!.row).toEqual(Buffer.from([0, 255, due[0]!.source.offset]))
  expect(await dueRetries(sql, LOG, [0], [], 10, 1)).toHaveLength(1)
  expect(await dueRetries(sql, LOG, [0], [ID], 10, 1_000)).toEqual([])
  expect(await dueRetries(sql, LOG, [1], [], 10, 1_000)).toEqual([])
  const ended = due.map((one) => ({
    ...one,
    end: 'delivered' as const,
    status: 200,
    response: '',
    nextInMs: 0,
  }))
  await settleRetries(sql, key, ended)
  // Another process tried the same ones.
  await settleRetries(sql, key, ended)
  expect(await delivered()).toBe(3)
  const [second] = await dueRetries(sql, LOG, [0], [], 10, 1_000)
  await settleRetries(sql, key, [
    { ...second!, end: undefined, status: 503, response: 'later', nextInMs: 60_000 },
  ])
  expect(await dueRetries(sql, LOG, [0], [], 10, 1_000)).toEqual([])
  const [row] = await sql`SELECT attempts, status, response FROM delivery_retry`
  expect(row).toMatchObject({ attempts: 2, status: 503, response: 'later' })
})
