/**
 * Copies on two shards, as far as one engine can: two databases with a table of their own, and `events` over both with the
 * number of the shard, as a Distributed table shows it. Statements `ON CLUSTER` run in each. What is real: our statements.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { EVENTS } from '../event/index.ts'
import { syncReplicas, type Warehouse } from '../warehouse/index.ts'
import { removeCopies } from './warehouse-copies.ts'

setDefaultTimeout(60_000)

const LOG_ID = '00000000-0000-4000-8000-000000000001'
const SHARDS = ['shard1', 'shard2'] as const
let servers: TestWarehouse
/** As sent, `ON CLUSTER` and all. */
const sent: string[] = []

beforeAll(async () => {
  servers = await startTestWarehouse()
  const { warehouse } = servers
  for (const shard of SHARDS) {
    await warehouse.command(`CREATE DATABASE ${shard}`)
    await warehouse.command(`CREATE TABLE ${shard}.events_local AS events`)
    await warehouse.command(`SYSTEM STOP MERGES ${shard}.events_local`)
  }
  await warehouse.command('DROP TABLE events')
  const parts = SHARDS.map(
    (shard, i) => `SELECT *, toUInt32(${i + 1}) AS _shard_num FROM ${shard}.events_local`,
  )
  await warehouse.command(`CREATE VIEW events AS ${parts.join(' UNION ALL ')}`)
})
afterAll(() => servers.stop())

const cluster = (): Warehouse => ({
  ...servers.warehouse,
  variant: 'sharded',
  async command(sql) {
    sent.push(sql)
    // There are no replicas here.
    if (sql.startsWith('SYSTEM SYNC REPLICA')) return
    const local = sql.replace(" ON CLUSTER '{cluster}'", '')
    // What names no cluster runs where it was sent.
    for (const shard of local === sql ? SHARDS.slice(0, 1) : SHARDS)
      await servers.warehouse.command(local.replace('events_local', `${shard}.events_local`))
  },
})

type Row = [offset: number, second: number, person?: string]

/** One part of rows at offsets, stored at that second. */
async function insert(shard: string, rows: Row[]): Promise<void> {
  const values = rows.map(
    ([offset, second, person = '{}']) =>
      `('${LOG_ID}', 'e', '2026-01-01 00:00:00', 1, 'd', '${person}', '${LOG_ID}', ${offset}, '2026-01-01 00:00:0${second}')`,
  )
  await servers.warehouse.command(
    `INSERT INTO ${shard}.events_local (uuid, event, timestamp, team_id, distinct_id, person_properties, _log_id, _offset, inserted_at)
     VALUES ${values.join()}`,
  )
}

test('what stays is the copy that was stored first, on whatever shard it was, also of two that are the same', async () => {
  // biome-ignore format: a table
  const parts: [string, Row[]][] = [
    ['shard1', [[0, 9], [1, 5], [2, 5]]],
    ['shard1', [[2, 5], [4, 5]]],
    ['shard2', [[0, 5], [1, 7, '{"n":1}'], [3, 5]]],
  ]
  for (const [shard, rows] of parts) await insert(shard, rows)
  for (const shard of SHARDS) await servers.warehouse.command(`SYSTEM START MERGES ${shard}.events_local`)
  const lane = { topic: 'raw_events', logId: LOG_ID, partition: 0 }
  const deps = { warehouse: cluster(), hold: async () => {}, reached: () => {} }
  expect(await removeCopies(deps, [{ lane, windows: [{ from: 0, to: 10 }] }])).toEqual([])
  const left = await servers.warehouse.query<{ row: string }>(
    `SELECT concat('shard', toString(_shard_num), ' ', toString(_offset), ' ', person_properties, ' ',
       toString(ceil(toUnixTimestamp64Micro(inserted_at) / 1e6) % 60)) AS row FROM events ORDER BY _offset`,
  )
  expect(left.map(({ row }) => row)).toEqual([
    'shard1 0 {} 5',
    'shard1 1 {} 5',
    'shard1 2 {} 5',
    'shard2 3 {} 5',
    'shard1 4 {} 5',
  ])
  // A replica carries a mutation out by itself: what it deletes must not depend on what it holds.
  expect(sent.filter((sql) => sql.includes('DELETE') && sql.includes('SELECT'))).toEqual([])
})

test('every replica is asked to come along, in words that ClickHouse knows', async () => {
  const asked: string[] = []
  const warehouse = (variant: Warehouse['variant']): Warehouse => ({
    ...servers.warehouse,
    variant,
    command: async (sql) => void asked.push(sql),
  })
  for (const variant of ['single', 'replicated', 'sharded'] as const)
    await syncReplicas(warehouse(variant), EVENTS)
  expect(asked).toEqual([
    "SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' events LIGHTWEIGHT",
    "SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' events_local LIGHTWEIGHT",
  ])
  for (const sql of asked) await servers.warehouse.query('SELECT formatQuery({sql:String})', { sql })
})
