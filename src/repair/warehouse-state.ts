/**
 * Persons, id overrides and groups that ClickHouse lacks, or has in an older version: made from Postgres, which holds
 * all of them as they are now. In: both. Out: how many are behind, and with `apply` their current rows, inserted. Safe
 * beside load and ingest and when repeated, since the highest version wins. A key that only ClickHouse knows is left as
 * it is (`headrace repair rewind`). Cost: every key of Postgres once, in pages; one look-up by primary key for each page.
 */
import type { Sql } from '../catalog/index.ts'
import { guardState } from '../catalog/index.ts'
import {
  GROUPS,
  NIL_UUID,
  PERSON,
  PERSON_DISTINCT_ID_OVERRIDES,
  type RowTopic,
  type Table,
  TOPICS,
} from '../event/index.ts'
import { type Outbox, readStateRows } from '../ingest/index.ts'
import type { Log } from '../log/index.ts'
import { textLiteral, type Warehouse } from '../warehouse/index.ts'
import { lateParts, topicParts } from './warehouse-late.ts'

type Deps = { sql: Sql; log: Log; warehouse: Warehouse; partitions: number }

export type StateRepair = { persons: number; overrides: number; groups: number }

type Key = { team: number; index: number; key: string; version: number }

type Kind = {
  name: keyof StateRepair
  topic: RowTopic
  table: Table
  /** Keys behind `after`, in order. */
  page(sql: Sql, after: Key, limit: number): Promise<Key[]>
  /** Columns of ClickHouse: index, key as text, version; and a condition for a list of keys. */
  index: string
  key: string
  version: string
  among(keys: readonly Key[]): string
  outbox(keys: readonly Key[]): Partial<Outbox>
}

const PAGE_KEYS = 5_000
/** Of the text of one question to ClickHouse, which reads at most 256 KiB. */
const QUESTION_CHARS_MAX = 200_000
const INSERT_BYTES_MAX = 16 * 2 ** 20

const KINDS: readonly Kind[] = [
  {
    name: 'persons',
    topic: TOPICS.persons,
    table: PERSON,
    page: (sql, { team, key }, limit) => sql<Key[]>`
      SELECT team_id AS team, 0 AS index, uuid::text AS key, version FROM person
      WHERE (team_id, uuid) > (${team}, ${key === '' ? NIL_UUID : key}::uuid)
      ORDER BY team_id, uuid LIMIT ${limit}`,
    index: '0',
    key: 'toString(id)',
    version: 'version',
    among: (keys) => `id IN (${keys.map(({ key }) => `toUUID('${key}')`).join()})`,
    outbox: (keys) => ({ persons: keys.map(({ team, key }) => [team, key]) }),
  },
  {
    name: 'overrides',
    topic: TOPICS.personDistinctIds,
    table: PERSON_DISTINCT_ID_OVERRIDES,
    page: (sql, { team, key }, limit) => sql<Key[]>`
      SELECT team_id AS team, 0 AS index, distinct_id AS key, version FROM person_distinct_id
      WHERE (team_id, distinct_id) > (${team}, ${key}) AND version > coalesce(squashed_version, 0) ORDER BY team_id, distinct_id LIMIT ${limit}`,
    index: '0',
    key: 'distinct_id',
    version: 'version',
    among: (keys) => `distinct_id IN (${keys.map(({ key }) => textLiteral(key)).join()})`,
    outbox: (keys) => ({ mappings: keys.map(({ team, key }) => [team, key]) }),
  },
  {
    name: 'groups',
    topic: TOPICS.groups,
    table: GROUPS,
    page: (sql, { team, index, key }, limit) => sql<Key[]>`
      SELECT team_id AS team, type_index AS index, group_key AS key, version FROM group_state
      WHERE (team_id, type_index, group_key) > (${team}, ${index}, ${key})
      ORDER BY team_id, type_index, group_key LIMIT ${limit}`,
    index: 'group_type_index',
    key: 'group_key',
    version: '_version',
    among: (keys) => `group_key IN (${keys.map(({ key }) => textLiteral(key)).join()})`,
    outbox: (keys) => ({ groups: keys.map(({ team, index, key }) => [team, index, key]) }),
  },
]

/** `waitMs`: how long rows that are on their way may take, once. */
export async function repairState(
  deps: Deps,
  options: { apply: boolean; waitMs: number },
): Promise<StateRepair> {
  const result: StateRepair = { persons: 0, overrides: 0, groups: 0 }
  let { waitMs } = options
  for (const kind of KINDS) {
    let after: Key = { team: -1, index: -1, key: '', version: 0 }
    for (;;) {
      const page = await guardState('read state', () => kind.page(deps.sql, after, PAGE_KEYS))
      let behind = await keysBehind(deps.warehouse, kind, page)
      if (behind.length > 0 && waitMs > 0) {
        const late = await lateParts(deps, topicParts([kind.topic], deps.partitions, undefined), waitMs)
        if (late.size > 0) waitMs = 0
        behind = await keysBehind(deps.warehouse, kind, behind)
      }
      result[kind.name] += behind.length
      if (options.apply) await insertState(deps, kind, behind)
      if (page.length < PAGE_KEYS) break
      after = page.at(-1)!
    }
  }
  return result
}

async function keysBehind(warehouse: Warehouse, kind: Kind, keys: readonly Key[]): Promise<Key[]> {
  const there = new Map<string, number>()
  for (const some of questionsOf(kind, keys)) {
    const found = await warehouse.query<Key>(
      `SELECT team_id AS team, ${kind.index} AS index, ${kind.key} AS key, max(${kind.version}) AS version
       FROM ${kind.table.name} WHERE team_id >= ${some[0]!.team} AND team_id <= ${some.at(-1)!.team} AND ${kind.among(some)}
       GROUP BY team, index, key`,
    )
    for (const key of found) there.set(nameOf(key), key.version)
  }
  return keys.filter((key) => (there.get(nameOf(key)) ?? -1) < key.version)
}

function* questionsOf(kind: Kind, keys: readonly Key[]): Generator<Key[]> {
  let some: Key[] = []
  let chars = 0
  for (const key of keys) {
    const more = kind.among([key]).length
    if (some.length > 0 && chars + more > QUESTION_CHARS_MAX) {
      yield some
      some = []
      chars = 0
    }
    some.push(key)
    chars += more
  }
  if (some.length > 0) yield some
}

/**
 * Overrides that a squash took away because stored events say what they said, and that are needed again: events of these
 * ids are about to come back as they were before. They are in ClickHouse before they count as not squashed any more.
 */
export async function bringBackOverrides(
  deps: Pick<Deps, 'sql' | 'warehouse'>,
  ids: readonly { team: number; id: string }[],
): Promise<void> {
  const { sql } = deps
  const wanted = JSON.stringify(ids)
  const squashed = await guardState(
    'look for squashed overrides',
    () => sql<Key[]>`
      SELECT d.team_id AS team, 0 AS index, d.distinct_id AS key, d.version
      FROM jsonb_to_recordset(${wanted}::text::jsonb) AS w(team int, id text)
      JOIN person_distinct_id d ON d.team_id = w.team AND d.distinct_id = w.id
      WHERE d.squashed_version IS NOT NULL`,
  )
  if (squashed.length === 0) return
  await insertState(deps, KINDS.find(({ name }) => name === 'overrides')!, squashed)
  await guardState(
    'note overrides that are back',
    () => sql`
      UPDATE person_distinct_id d SET squashed_version = NULL
      FROM jsonb_to_recordset(${JSON.stringify(squashed)}::text::jsonb) AS w(team int, key text)
      WHERE d.team_id = w.team AND d.distinct_id = w.key`,
  )
}

async function insertState(
  { sql, warehouse }: Pick<Deps, 'sql' | 'warehouse'>,
  kind: Kind,
  keys: readonly Key[],
): Promise<void> {
  if (keys.length === 0) return
  const empty: Outbox = { persons: [], mappings: [], groups: [] }
  const read = await readStateRows(sql, { ...empty, ...kind.outbox(keys) })
  let rows: Buffer[] = []
  let bytes = 0
  const send = async () => {
    await warehouse.insertRows({ table: kind.table, rows, token: Bun.randomUUIDv7() })
    rows = []
    bytes = 0
  }
  for (const row of [...read.persons, ...read.personDistinctIds, ...read.groups]) {
    if (bytes + row.length > INSERT_BYTES_MAX) await send()
    rows.push(row)
    bytes += row.length
  }
  await send()
}

function nameOf({ team, index, key }: Key): string {
  return `${team}/${index}/${key}`
}
