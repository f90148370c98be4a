/**
 * Persons, distinct ids and groups that ClickHouse has under a version that Postgres does not know: they were sent in
 * the time that a restored Postgres lost. Exact: a state row is produced only after the batch that made it was applied,
 * and ClickHouse is asked first. For when the state topics no longer reach back so far. Cost: every key of the three
 * tables once, in pages; bounded memory.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { ListedState } from './lost-receipts.ts'

const PAGE_ROWS = 20_000

type Kind = { kind: ListedState['kind']; table: string; index: string; key: string; version: string }

const KINDS: readonly Kind[] = [
  { kind: 'person', table: 'person', index: '0', key: 'toString(id)', version: 'version' },
  {
    kind: 'mapping',
    table: 'person_distinct_id_overrides',
    index: '0',
    key: 'distinct_id',
    version: 'version',
  },
  { kind: 'group', table: 'groups', index: 'group_type_index', key: 'group_key', version: '_version' },
]

export async function* loadedStateAhead({
  sql,
  warehouse,
}: {
  sql: Sql
  warehouse: Warehouse
}): AsyncGenerator<ListedState> {
  for (const kind of KINDS) {
    let after = { team: -1, index: -1, key: '' }
    for (;;) {
      const page = await readPage(warehouse, kind, after)
      if (page.length > 0) yield* await unknownTo(sql, page)
      if (page.length < PAGE_ROWS) break
      after = page.at(-1)!
    }
  }
}

function readPage(
  warehouse: Warehouse,
  { kind, table, index, key, version }: Kind,
  after: { team: number; index: number; key: string },
): Promise<ListedState[]> {
  return warehouse.query<ListedState>(
    `SELECT '${kind}' AS kind, team_id AS team, toInt32(${index}) AS index, ${key} AS key, max(${version}) AS above
     FROM ${table}
     WHERE team_id >= {team:Int64} AND (team_id, toInt32(${index}), ${key}) > ({team:Int64}, {index:Int32}, {key:String})
     GROUP BY kind, team, index, key
     ORDER BY team, index, key LIMIT ${PAGE_ROWS}`,
    { team: after.team, index: after.index, key: after.key },
  )
}

async function unknownTo(sql: Sql, page: readonly ListedState[]): Promise<ListedState[]> {
  return guardState(
    'compare state with ClickHouse',
    () =>
      sql<ListedState[]>`
      SELECT l.* FROM jsonb_to_recordset(${JSON.stringify(page)}::text::jsonb)
        AS l(kind text, team int, index smallint, key text, above bigint)
      WHERE above > coalesce(CASE kind
        WHEN 'person' THEN (SELECT version FROM person WHERE team_id = team AND uuid = (CASE kind WHEN 'person' THEN l.key END)::uuid)
        WHEN 'mapping' THEN (SELECT version FROM person_distinct_id WHERE team_id = team AND distinct_id = l.key)
        ELSE (SELECT version FROM group_state WHERE team_id = team AND type_index = index AND group_key = l.key) END, -1)`,
  )
}
