/**
 * The DDL of a cluster, run and not only parsed, as far as one engine can: a cluster of two shards that are both this
 * engine, so that Distributed tables, views and joins work as on two nodes, with each row seen twice. `ON CLUSTER` and
 * Replicated tables need a server and Keeper; they are left out here.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { forgetSnapshot } from '../squash/index.ts'
import { makeDictionary, prepareSnapshot, takeSnapshot } from '../squash/snapshot.ts'
import type { Warehouse } from './client.ts'
import { Engine } from './embedded/engine.ts'
import { migrateWarehouse } from './migrate.ts'
import { changeRows } from './mutate.ts'
import { addProperty, fillProperty } from './promote.ts'
import { monthsOf } from './replicas.ts'

setDefaultTimeout(60_000)

const dir = mkdtempSync(join(tmpdir(), 'headrace-cluster-'))
const DATABASE = 'cluster'
const SHARD = '<shard><replica><host>localhost</host><port>9000</port></replica></shard>'
writeFileSync(
  join(dir, 'engine.xml'),
  `<clickhouse><tcp_port>9000</tcp_port><remote_servers><two>${SHARD}${SHARD}</two></remote_servers>
   <macros><cluster>two</cluster><shard>0</shard><replica>a</replica></macros></clickhouse>`,
)

let engine: Engine
beforeAll(async () => {
  engine = Engine.open({
    dir: join(dir, 'engine'),
    sessionsMax: 2,
    waitingMax: 8,
    connectionArgs: [`--config-file=${join(dir, 'engine.xml')}`],
    baseSettings: new Map([['max_execution_time', '30']]),
  })
  await run(`CREATE DATABASE ${DATABASE}`, 'default')
  await migrateWarehouse(cluster)
})
afterAll(async () => {
  await engine.close(2_000)
  rmSync(dir, { recursive: true, force: true })
})

async function run(sql: string, database: string, params: Record<string, unknown> = {}, format = 'Null') {
  const { bytes } = await engine.run({
    sql,
    format,
    database,
    settings: new Map([['output_format_json_quote_64bit_integers', '0']]),
    params: new Map(Object.entries(params).map(([name, value]) => [name, parameterText(value)])),
    kind: 'read',
    changesSession: false,
  })
  return new TextDecoder().decode(bytes)
}

function parameterText(value: unknown): string {
  if (!Array.isArray(value)) return String(value)
  const items = value.map((item) => `'${String(item).replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`)
  return `[${items.join(',')}]`
}

/** What a node of the cluster would get of `ON CLUSTER`, with tables that keep no replica. */
function onNode(statement: string): string {
  return statement
    .replace(" ON CLUSTER '{cluster}'", '')
    .replace(/^SYSTEM SYNC REPLICA.*/, 'SELECT 1')
    .replace(/Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?/, '$1(')
}

const cluster = {
  variant: 'sharded',
  database: DATABASE,
  async query<T>(sql: string, params?: Record<string, unknown>) {
    const text = await run(sql, DATABASE, params, 'JSONEachRow')
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as T)
  },
  async command(sql: string, params?: Record<string, unknown>) {
    await run(onNode(sql), DATABASE, params)
  },
} as unknown as Warehouse
const ask = (sql: string) => cluster.query<object>(sql)

const MOVED = '00000000-0000-4000-8000-00000000000a'

test('views over two shards: events of both, joined on each with the state that every node has', async () => {
  await cluster.command(
    `INSERT INTO events_local (uuid, event, properties, timestamp, team_id, distinct_id, person_id, _offset)
     SELECT generateUUIDv4(), 'e', concat('{"$group_0":"acme","$os":"os ', toString(number % 2), '","n":', toString(number), '}'),
       now64(6), 1, concat('user-', toString(number)), generateUUIDv4(), number FROM numbers(20)`,
  )
  await cluster.command(
    `INSERT INTO person_distinct_id_overrides (team_id, distinct_id, person_id, is_deleted, version)
     SELECT 1, concat('user-', toString(number)), '${MOVED}', 0, 1 FROM numbers(4)`,
  )
  await cluster.command(
    `INSERT INTO person (id, team_id, properties, version) SELECT '${MOVED}', 1, '{"plan":"pro"}', 1`,
  )
  await cluster.command(
    `INSERT INTO groups (group_type_index, group_key, team_id, group_properties, _version) SELECT 0, 'acme', 1, '{"name":"Acme"}', 1`,
  )
  expect(await ask('SELECT count() AS n, uniqExact(distinct_id) AS ids FROM events')).toEqual([
    { n: 40, ids: 20 },
  ])
  expect(
    await ask(
      `SELECT count() AS n, uniqExact(person_id) AS persons, countIf(person_id = '${MOVED}') AS moved FROM events_resolved`,
    ),
  ).toEqual([{ n: 40, persons: 17, moved: 8 }])
  expect(
    await ask(
      `SELECT current_person_properties AS person, current_group0_properties AS company, p_$os AS os, count() AS n
       FROM events_current GROUP BY ALL ORDER BY person, os`,
    ),
  ).toEqual([
    { person: '', company: '{"name":"Acme"}', os: 'os 0', n: 16 },
    { person: '', company: '{"name":"Acme"}', os: 'os 1', n: 16 },
    { person: '{"plan":"pro"}', company: '{"name":"Acme"}', os: 'os 0', n: 4 },
    { person: '{"plan":"pro"}', company: '{"name":"Acme"}', os: 'os 1', n: 4 },
  ])
})

test('aggregation runs on the shards, not on the node that was asked', async () => {
  const plan = await cluster.query<{ explain: string }>(
    'EXPLAIN SELECT event, count() FROM events_resolved GROUP BY event',
  )
  expect(plan.map(({ explain }) => explain).join('\n')).toContain('MergingAggregated')
})

test('a promoted property is in the local tables, the Distributed ones and the views', async () => {
  await addProperty(cluster, { name: 'n', type: 'number' })
  await fillProperty(cluster, 'n')
  const tables = await cluster.query<{ table: string }>(
    "SELECT table FROM system.columns WHERE name = 'p_n' AND database = currentDatabase() ORDER BY table",
  )
  expect(tables.map(({ table }) => table)).toEqual([
    'events',
    'events_current',
    'events_current_local',
    'events_local',
    'events_resolved',
    'events_resolved_local',
  ])
  for (const from of ['events', 'events_resolved', 'events_current'])
    expect(await ask(`SELECT sum(p_n) AS sum FROM ${from}`)).toEqual([{ sum: 380 }])
})

test('a promotion that was killed between the local table and the one over it is mended by the next', async () => {
  await cluster.command('ALTER TABLE events DROP COLUMN p_n')
  await addProperty(cluster, { name: 'n', type: 'number' })
  expect(await ask('SELECT sum(p_n) AS sum FROM events')).toEqual([{ sum: 380 }])
})

test('stored rows are changed on every shard, and every copy is asked what is left', async () => {
  const [month] = await monthsOf(cluster, { name: 'events' })
  const change = { table: 'events', month: month!, what: 'DELETE', where: "distinct_id = 'user-7'" }
  expect(await changeRows(cluster, change, () => {})).toBe(2)
  expect(await changeRows(cluster, change, () => {})).toBe(0)
  expect(await ask("SELECT count() AS n FROM events WHERE distinct_id = 'user-7'")).toEqual([{ n: 0 }])
})

test('the dictionary of a squash is compared on every node', async () => {
  const access = { username: '', password: '' }
  await prepareSnapshot(cluster)
  const snapshot = await takeSnapshot(cluster, Date.now() + 2_000)
  expect(snapshot.keys).toBe(4)
  await makeDictionary(cluster, access, snapshot)
  const other = { ...snapshot, hash: '1' }
  await expect(makeDictionary(cluster, access, other)).rejects.toMatchObject({ code: 'HR_SQUASH_CHANGED' })
  await forgetSnapshot(cluster)
})
