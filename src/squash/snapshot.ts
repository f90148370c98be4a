/**
 * The overrides that a squash is about, as ClickHouse holds them while it runs: a table, whole on every node, and a
 * dictionary over it, so that a mutation finds the person of a distinct id by one look-up per row. Both are made anew at
 * the beginning and are empty afterwards.
 */
import { renderDdl, textLiteral, type Warehouse } from '../warehouse/index.ts'
import type { Snapshot } from './runs.ts'

const TABLE = 'squash_snapshot'
const DICTIONARY = 'squash_persons'

/** Who the dictionary reads the table as; a server may want a password also of itself. */
export type Access = { username: string; password: string }

/** Makes the table when it is missing. */
export async function prepareSnapshot(warehouse: Warehouse): Promise<void> {
  for (const statement of renderDdl({ name: TABLE, text: DDL }, warehouse.variant))
    await warehouse.command(statement)
}

export async function takeSnapshot(warehouse: Warehouse, beforeMs: number): Promise<Snapshot> {
  await warehouse.command(`TRUNCATE TABLE ${TABLE}${onCluster(warehouse)}`)
  await warehouse.command(
    `INSERT INTO ${TABLE} (team_id, distinct_id, person_id, is_deleted, version)
     SELECT team_id, distinct_id, argMax(o.person_id, o.version), argMax(o.is_deleted, o.version), max(o.version)
     FROM person_distinct_id_overrides AS o GROUP BY team_id, distinct_id
     HAVING max(o._timestamp) < fromUnixTimestamp64Milli({before:Int64})
     SETTINGS insert_deduplicate = 0${warehouse.variant === 'single' ? '' : ", insert_quorum = 'auto'"}`,
    { before: Math.floor(beforeMs) },
  )
  return readSnapshot(warehouse)
}

export async function readSnapshot(warehouse: Warehouse): Promise<Snapshot> {
  const [row] = await warehouse.query<{ keys: number; hash: string }>(
    `SELECT count() AS keys, toString(sum(cityHash64(team_id, distinct_id, person_id, is_deleted, version))) AS hash
     FROM ${TABLE} FINAL`,
  )
  return row!
}

/** Makes the dictionary, with what the table holds now; gives the name under which mutations find it. */
export async function makeDictionary(warehouse: Warehouse, { username, password }: Access): Promise<string> {
  const [row] = await warehouse.query<{ database: string }>('SELECT currentDatabase() AS database')
  const { database } = row!
  const access = username === '' ? '' : ` USER ${quoted(username)} PASSWORD ${quoted(password)}`
  await dropDictionary(warehouse)
  await warehouse.command(
    `CREATE DICTIONARY ${DICTIONARY}${onCluster(warehouse)}
     (team_id Int64, distinct_id String, person_id UUID, is_deleted Int8, version Int64)
     PRIMARY KEY team_id, distinct_id
     SOURCE(CLICKHOUSE(QUERY ${quoted(`SELECT team_id, distinct_id, person_id, is_deleted, version FROM \`${database}\`.${TABLE} FINAL`)}${access}))
     LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)`,
  )
  return quoted(`${database}.${DICTIONARY}`)
}

export async function forgetSnapshot(warehouse: Warehouse): Promise<void> {
  await dropDictionary(warehouse)
  await warehouse.command(`TRUNCATE TABLE IF EXISTS ${TABLE}${onCluster(warehouse)}`)
}

/** With what a squash that was killed left at work: without the dictionary it would fail for ever, in front of others. */
async function dropDictionary(warehouse: Warehouse): Promise<void> {
  await warehouse.command(
    `KILL MUTATION${onCluster(warehouse)}
     WHERE database = currentDatabase() AND NOT is_done AND position(command, '${DICTIONARY}') > 0 SYNC`,
  )
  await warehouse.command(`DROP DICTIONARY IF EXISTS ${DICTIONARY}${onCluster(warehouse)}`)
}

export type SnapshotKey = { team: number; id: string; version: number }

/** All keys, in pages. */
export async function* snapshotKeys(warehouse: Warehouse, limit: number): AsyncGenerator<SnapshotKey[]> {
  let after = ''
  for (;;) {
    const page = await warehouse.query<SnapshotKey>(
      `SELECT team_id AS team, distinct_id AS id, version FROM ${TABLE} FINAL ${after} ORDER BY team_id, distinct_id LIMIT ${limit}`,
    )
    if (page.length > 0) yield page
    if (page.length < limit) return
    const { team, id } = page.at(-1)!
    after = `WHERE (team_id, distinct_id) > (${team}, ${textLiteral(id)})`
  }
}

/** Overrides that a squash would take, and rows of `events` by month that do not say yet what they say. */
export async function previewSnapshot(warehouse: Warehouse, beforeMs: number) {
  const params = { before: Math.floor(beforeMs) }
  const older = `SELECT team_id, distinct_id, argMax(o.person_id, o.version) AS person, argMax(o.is_deleted, o.version) AS gone
     FROM person_distinct_id_overrides AS o GROUP BY team_id, distinct_id
     HAVING max(o._timestamp) < fromUnixTimestamp64Milli({before:Int64})`
  const [overrides] = await warehouse.query<{ n: number }>(`SELECT count() AS n FROM (${older})`, params)
  const months = await warehouse.query<{ month: string; rows: number }>(
    `SELECT toString(toYYYYMM(e.timestamp)) AS month, count() AS rows FROM events AS e
     GLOBAL ANY INNER JOIN (${older}) AS s ON s.team_id = e.team_id AND s.distinct_id = e.distinct_id
     WHERE s.gone = 0 AND e.person_id != s.person GROUP BY month ORDER BY month`,
    params,
  )
  return { overrides: overrides!.n, months }
}

function onCluster({ variant }: Warehouse): string {
  return variant === 'single' ? '' : ` ON CLUSTER '{cluster}'`
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

const DDL = `-- @state
CREATE TABLE IF NOT EXISTS ${TABLE}
(
    \`team_id\` Int64,
    \`distinct_id\` String,
    \`person_id\` UUID,
    \`is_deleted\` Int8,
    \`version\` Int64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (team_id, distinct_id)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;
`
