/**
 * The overrides that a squash is about, as ClickHouse holds them while it runs: a table, whole on every node, and a
 * dictionary over it, so that a mutation finds the person of a distinct id by one look-up per row. Both are made anew at
 * the beginning and are empty afterwards.
 */
import {
  everyCopy,
  monthsOf,
  onCluster,
  quoteName,
  quoteString,
  renderDdl,
  syncReplicas,
  systemTable,
  textLiteral,
  type Warehouse,
} from '../warehouse/index.ts'
import { squashError } from './errors.ts'
import type { Snapshot } from './runs.ts'

const TABLE = 'squash_snapshot'
const DICTIONARY = 'squash_persons'

/** Who the dictionary reads the table as; a server may want a password also of itself. */
export type Access = { username: string; password: string }

/** The newest override of each id, of ids whose newest one came before {before:Int64}. */
const OLDER = `SELECT team_id, distinct_id, argMax(o.person_id, o.version) AS person, argMax(o.is_deleted, o.version) AS gone,
   max(o.version) AS newest
 FROM person_distinct_id_overrides AS o GROUP BY team_id, distinct_id
 HAVING max(o._timestamp) < fromUnixTimestamp64Milli({before:Int64})`

/** Makes the table when it is missing. */
export async function prepareSnapshot(warehouse: Warehouse): Promise<void> {
  for (const statement of renderDdl({ name: TABLE, text: DDL }, warehouse.variant))
    await warehouse.command(statement)
}

export async function takeSnapshot(warehouse: Warehouse, beforeMs: number): Promise<Snapshot> {
  await warehouse.command(`TRUNCATE TABLE ${TABLE}${onCluster(warehouse)}`)
  await warehouse.command(
    `INSERT INTO ${TABLE} (team_id, distinct_id, person_id, is_deleted, version)
     SELECT team_id, distinct_id, person, gone, newest FROM (${OLDER})
     SETTINGS insert_deduplicate = 0${warehouse.variant === 'single' ? '' : ", insert_quorum = 'auto'"}`,
    { before: Math.floor(beforeMs) },
  )
  return readSnapshot(warehouse)
}

const SUMS = `count() AS keys, toString(sum(cityHash64(team_id, distinct_id, person_id, is_deleted, version))) AS hash`

export async function readSnapshot(warehouse: Warehouse): Promise<Snapshot> {
  await syncReplicas(warehouse, { name: TABLE })
  const [row] = await warehouse.query<Snapshot>(`SELECT ${SUMS} FROM ${TABLE} FINAL`)
  return row!
}

/**
 * Makes the dictionary, with what the table holds now, and asks every node whether its own has all of it: with a part of it
 * overrides would go whose events still say the old person. Gives the name under which mutations find it. Throws
 * HR_SQUASH_CHANGED.
 */
export async function makeDictionary(
  warehouse: Warehouse,
  access: Access,
  snapshot: Snapshot,
): Promise<string> {
  const database = await databaseOf(warehouse)
  await createDictionary(warehouse, database, access)
  await warehouse.command(
    `SYSTEM RELOAD DICTIONARY${onCluster(warehouse)} ${quoteName(database)}.${DICTIONARY}`,
  )
  const nodes = await warehouse.query<Snapshot>(
    `SELECT hostName() AS host, ${SUMS} FROM ${everyCopy(warehouse, { name: DICTIONARY })} GROUP BY host`,
  )
  const whole = nodes.filter(({ keys, hash }) => keys === snapshot.keys && hash === snapshot.hash)
  // Of an empty dictionary a node says nothing.
  const [all] = await warehouse.query<{ nodes: number }>(
    `SELECT uniqExact(hostName()) AS nodes FROM ${systemTable(warehouse, 'dictionaries')}
     WHERE database = currentDatabase() AND name = '${DICTIONARY}'`,
  )
  if (snapshot.keys > 0 && whole.length < all!.nodes)
    throw squashError(
      'HR_SQUASH_CHANGED',
      `${all!.nodes - whole.length} of ${all!.nodes} servers have another snapshot than the one of ${snapshot.keys} overrides that was noted`,
    )
  return quoteString(`${database}.${DICTIONARY}`)
}

/** By name, for statements that each node carries out by itself. */
async function databaseOf(warehouse: Warehouse): Promise<string> {
  const [row] = await warehouse.query<{ database: string }>('SELECT currentDatabase() AS database')
  return row!.database
}

async function createDictionary(
  warehouse: Warehouse,
  database: string,
  { username, password }: Access,
): Promise<void> {
  const access = username === '' ? '' : ` USER ${quoteString(username)} PASSWORD ${quoteString(password)}`
  await dropDictionary(warehouse, database)
  await warehouse.command(
    `CREATE DICTIONARY ${DICTIONARY}${onCluster(warehouse)}
     (team_id Int64, distinct_id String, person_id UUID, is_deleted Int8, version Int64)
     PRIMARY KEY team_id, distinct_id
     SOURCE(CLICKHOUSE(QUERY ${quoteString(`SELECT team_id, distinct_id, person_id, is_deleted, version FROM ${quoteName(database)}.${TABLE} FINAL`)}${access}))
     LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)`,
  )
}

export async function forgetSnapshot(warehouse: Warehouse): Promise<void> {
  await dropDictionary(warehouse, await databaseOf(warehouse))
  await warehouse.command(`TRUNCATE TABLE IF EXISTS ${TABLE}${onCluster(warehouse)}`)
}

/** With what a squash that was killed left at work: without the dictionary it would fail for ever, in front of others. */
async function dropDictionary(warehouse: Warehouse, database: string): Promise<void> {
  await warehouse.command(
    `KILL MUTATION${onCluster(warehouse)}
     WHERE database = ${quoteString(database)} AND NOT is_done AND position(command, '${DICTIONARY}') > 0 SYNC`,
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

/** Overrides that a squash would take, and rows of `events` by month (a question for each) that do not say yet what they say. */
export async function previewSnapshot(warehouse: Warehouse, beforeMs: number) {
  const params = { before: Math.floor(beforeMs) }
  const [overrides] = await warehouse.query<{ n: number }>(`SELECT count() AS n FROM (${OLDER})`, params)
  const months: { month: string; rows: number }[] = []
  for (const month of overrides!.n === 0 ? [] : await monthsOf(warehouse, { name: 'events' })) {
    const [found] = await warehouse.query<{ rows: number }>(
      `SELECT count() AS rows FROM events AS e
       GLOBAL ANY INNER JOIN (${OLDER}) AS s ON s.team_id = e.team_id AND s.distinct_id = e.distinct_id
       WHERE toYYYYMM(e.timestamp) = ${month} AND s.gone = 0 AND e.person_id != s.person`,
      params,
    )
    if (found!.rows > 0) months.push({ month, rows: found!.rows })
  }
  return { overrides: overrides!.n, months }
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
