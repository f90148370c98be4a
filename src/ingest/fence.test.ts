/** Who may advance the fences of a partition, on a real Postgres. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test'
import { randomUUID } from 'node:crypto'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { type LaneId, takeOver } from './fence.ts'
import { event, Lane, livingPersons, plainReceipt, wipe } from './identity/identity.fixture.ts'
import { createIdentity, type Identity } from './identity/index.ts'

let postgres: TestPostgres
let identity: Identity

beforeAll(async () => {
  postgres = await startTestPostgres()
  identity = createIdentity(postgres.sql)
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)
beforeEach(() => wipe(postgres.sql))

function commit(lane: Lane, owner: string, distinctId: string) {
  return identity.commit([event(distinctId)], { ...lane.position(1), owner }, () => plainReceipt(1))
}

test('once a partition has a new owner, the former one can go on with neither lane, though a fence stands where it left it', async () => {
  const lanes = [await Lane.open(postgres.sql), await Lane.open(postgres.sql)] as const
  const ids: LaneId[] = lanes.map(({ logId, partition }) => ({ logId, partition, topic: 'raw_events' }))
  const [former, heir] = [randomUUID(), randomUUID()]
  await takeOver(postgres.sql, ids, former)
  await commit(lanes[0], former, 'a')
  lanes[0].next = 1

  await takeOver(postgres.sql, ids, heir)
  await commit(lanes[1], heir, 'b')
  lanes[1].next = 1

  // It has judged its next batch by an index that knows nothing of what the heir has applied on the other lane.
  for (const lane of lanes) {
    await expect(commit(lane, former, 'late')).rejects.toMatchObject({ code: 'HR_INGEST_FENCE' })
    await commit(lane, heir, 'c')
  }
  expect((await livingPersons(postgres.sql)).flatMap(({ ids: [id] }) => id).sort()).toEqual(['a', 'b', 'c'])
})

test('another partition keeps its owner', async () => {
  const mine = await Lane.open(postgres.sql, 0)
  const other = await Lane.open(postgres.sql, 1)
  const owner = randomUUID()
  for (const { logId, partition } of [mine, other])
    await takeOver(postgres.sql, [{ logId, partition, topic: 'raw_events' }], owner)
  await takeOver(postgres.sql, [{ logId: mine.logId, partition: 0, topic: 'raw_events' }], randomUUID())
  await commit(other, owner, 'a')
  await expect(commit(mine, owner, 'b')).rejects.toMatchObject({ code: 'HR_INGEST_FENCE' })
})
