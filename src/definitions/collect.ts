/**
 * Names and types in the rows of a range of one raw partition, asked of ClickHouse. In: a range below the load progress.
 * Out: counts per name, exact: a row counts once however many copies of it there are. ClickHouse takes the JSON apart; rows
 * of one shape (same names, same types) become one before their names are told apart, and a person or a group is taken
 * apart once per state. Bounded: one step gives at most `NAMES_MAX` names of each kind, the rest as a number.
 */
import type { Warehouse } from '../warehouse/index.ts'
import { countBeyond, emptyCollection, mergeInto } from './merge.ts'
import type { Collected, PropertyKind, PropertyType, Range, SeenEvent, SeenProperty } from './types.ts'

/** Names of one answer, and of one step in memory; with their types a few MB. */
const NAMES_MAX = 50_000
/** Longer ones are counted as beyond: UTF-8 bytes, upstream's limit. */
const NAME_BYTES_MAX = 200
/** What is sent beside an event's own properties, and the keys of groups. */
const NO_PROPERTIES = [
  '$set',
  '$set_once',
  '$unset',
  '$group_0',
  '$group_1',
  '$group_2',
  '$group_3',
  '$group_4',
  '$groups',
]
/** One per flag or experiment: told apart by event they would be the product of both. */
const PREFIXES_OF_ANY_EVENT = ['$feature/', '$feature_enrollment/']

/** `insertedSinceMs`: no row of the range was inserted before; it finds the granules. */
export async function collect(
  warehouse: Warehouse,
  range: Range,
  insertedSinceMs: number,
  namesMax = NAMES_MAX,
): Promise<Collected> {
  try {
    return await collectAtOnce(warehouse, range, insertedSinceMs, namesMax)
  } catch (error) {
    if (!(error instanceof RangeTooWide)) throw error
  }
  const middle = Math.floor((range.from + range.to) / 2)
  const parts = [
    { ...range, to: middle },
    { ...range, from: middle },
  ]
  const into = emptyCollection()
  for (const part of parts)
    mergeInto(into, await collect(warehouse, part, insertedSinceMs, namesMax), namesMax)
  return into
}

async function collectAtOnce(
  warehouse: Warehouse,
  range: Range,
  insertedSinceMs: number,
  namesMax: number,
): Promise<Collected> {
  const params = {
    log: range.logId,
    partition: range.partition,
    from: range.from,
    to: range.to,
    since: Math.max(0, Math.floor(insertedSinceMs)),
    limit: namesMax,
    none: NO_PROPERTIES,
  }
  const ask = <T>(sql: string) => warehouse.query<T>(sql, params)
  const collected = emptyCollection()
  const events = await ask<EventRow>(EVENTS)
  for (const row of events) addEvent(collected, row)
  if (events.length === 0) return collected
  collected.rows = events.reduce((sum, { volume }) => sum + volume, 0)
  countCut(range, events, collected.eventsBeyond)
  const once = events.some(({ copied }) => copied === 1) ? ONCE : ''
  const groups = [0, 1, 2, 3, 4].filter((i) => events.some(({ grouped }) => grouped[i] === 1))
  const owners: [PropertyKind, string][] = [
    ['event', shapes('event', 'properties', 'notIn(pair.1, {none:Array(String)})', once)],
    ['person', states('', 'person_properties', once)],
    ...groups.map((i): [PropertyKind, string] => ['group', states(String(i), `group${i}_properties`, once)]),
  ]
  for (const [kind, sql] of owners) {
    const rows = await ask<PropertyRow>(sql)
    countCut(range, rows, collected.propertiesBeyond)
    addProperties(collected, kind, rows)
  }
  return collected
}

/** The range has more names than one answer holds: a smaller one has fewer. */
class RangeTooWide extends Error {
  constructor(readonly beyond: number) {
    super(`${beyond} occurrences of names are beyond what one answer holds`)
  }
}

/** Of one event, which has one project, what the answer does not hold is counted; a longer range is to be halved. */
function countCut(
  range: Range,
  rows: readonly { team_id: number; volume: number; total: number }[],
  beyond: Map<number, number>,
): void {
  const [first] = rows
  if (!first) return
  const cut = first.total - rows.reduce((sum, { volume }) => sum + volume, 0)
  if (cut === 0) return
  if (range.to - range.from > 1) throw new RangeTooWide(cut)
  countBeyond(beyond, first.team_id, cut)
}

type EventRow = {
  team_id: number
  event: string
  volume: number
  first_ms: number
  last_ms: number
  total: number
  /** A row of it is there more than once, as long as no merge has removed the copy. */
  copied: number
  /** By group type: some row of it has properties of a group. */
  grouped: number[]
}
type PropertyRow = {
  team_id: number
  owner: string
  name: string
  type: PropertyType
  volume: number
  first_ms: number
  last_ms: number
  total: number
}

function addEvent(into: Collected, { team_id: teamId, event, volume, first_ms, last_ms }: EventRow): void {
  if (Buffer.byteLength(event) > NAME_BYTES_MAX) countBeyond(into.eventsBeyond, teamId, volume)
  else into.events.push({ teamId, event, volume, firstMs: first_ms, lastMs: last_ms } satisfies SeenEvent)
}

function addProperties(into: Collected, kind: PropertyKind, rows: readonly PropertyRow[]): void {
  const known = new Map<string, SeenProperty>()
  for (const { team_id: teamId, owner: of, name, type, volume, first_ms, last_ms } of rows) {
    const owner =
      kind === 'event' && PREFIXES_OF_ANY_EVENT.some((prefix) => name.startsWith(prefix)) ? '' : of
    if (Buffer.byteLength(name) > NAME_BYTES_MAX || Buffer.byteLength(owner) > NAME_BYTES_MAX) {
      countBeyond(into.propertiesBeyond, teamId, volume)
      continue
    }
    const key = `${teamId}\n${owner.length}\n${owner}${name}`
    const seen = known.get(key) ?? {
      teamId,
      kind,
      owner,
      name,
      types: {},
      volume: 0,
      firstMs: first_ms,
      lastMs: last_ms,
    }
    known.set(key, seen)
    seen.volume += volume
    seen.types[type] = (seen.types[type] ?? 0) + volume
    seen.firstMs = Math.min(seen.firstMs, first_ms)
    seen.lastMs = Math.max(seen.lastMs, last_ms)
  }
  into.properties.push(...known.values())
}

/** Costs 1 µs per row, so that only the first query does it always, and says whether the others must. */
const ONCE = 'LIMIT 1 BY _log_id, _partition, _offset, _sub'

const ROWS = (columns: string, once: string) => `
  SELECT team_id, created_at, ${columns} FROM events
  WHERE _log_id = {log:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
    AND inserted_at >= fromUnixTimestamp64Milli({since:Int64}) ${once}`

/** Postgres keeps no NUL in a text; ingest replaces it in properties in the same way, and event names come as they are. */
const KEEPABLE = (text: string) => `replaceAll(${text}, char(0), '\uFFFD')`

const SEEN = 'toUnixTimestamp64Milli(min(first)) AS first_ms, toUnixTimestamp64Milli(max(last)) AS last_ms'

const EVENTS = `
  SELECT team_id, event, count() AS volume, toUnixTimestamp64Milli(min(created_at)) AS first_ms,
    toUnixTimestamp64Milli(max(created_at)) AS last_ms, sum(count()) OVER () AS total, max(copies > 1) AS copied,
    [${[0, 1, 2, 3, 4].map((i) => `max(g${i})`).join(', ')}] AS grouped
  FROM (
    SELECT team_id, any(${KEEPABLE('event')}) AS event, min(created_at) AS created_at, count() AS copies,
      ${[0, 1, 2, 3, 4].map((i) => `any(group${i}_properties NOT IN ('', '{}')) AS g${i}`).join(', ')}
    FROM (${ROWS(`_offset, _sub, event, ${[0, 1, 2, 3, 4].map((i) => `group${i}_properties`).join(', ')}`, '')})
    GROUP BY team_id, _offset, _sub
  ) GROUP BY team_id, event ORDER BY volume DESC, team_id, event LIMIT {limit:UInt32}`

/** The first character tells JSON's type. */
const IS_DATE =
  "substring(kv.2, 6, 1) = '-' AND substring(kv.2, 9, 1) = '-' AND match(kv.2, '^\"[12][0-9]{3}-[01][0-9]-[0-3][0-9](\"$|[T ][0-9]{2}:)')"
const TYPE = `if(${IS_DATE}, 'datetime', transform(substring(kv.2, 1, 1), ['"', '{', '[', 't', 'f', 'n'], ['string', 'object', 'array', 'boolean', 'boolean', 'null'], 'number'))`
const SHAPE = (column: string) => `arrayMap(kv -> (kv.1, ${TYPE}), JSONExtractKeysAndValuesRaw(${column}))`

const named = (inner: string, where = '') => `
  SELECT team_id, owner, ${KEEPABLE('pair.1')} AS name, pair.2 AS type, sum(n) AS volume, ${SEEN}, sum(sum(n)) OVER () AS total
  FROM (${inner}) ARRAY JOIN shape AS pair ${where}
  GROUP BY team_id, owner, name, type ORDER BY volume DESC, team_id, owner, name, type LIMIT {limit:UInt32}`

/** One line per shape. */
function shapes(owner: string, column: string, condition: string, once: string): string {
  return named(
    `SELECT team_id, ${KEEPABLE(owner)} AS owner, ${SHAPE(column)} AS shape, count() AS n, min(created_at) AS first, max(created_at) AS last
     FROM (${ROWS(`event, ${column}`, once)}) GROUP BY team_id, owner, shape`,
    `WHERE ${condition}`,
  )
}

/** One line per state of a person or group. */
function states(owner: string, column: string, once: string): string {
  return named(`
    SELECT team_id, '${owner}' AS owner, ${SHAPE('state')} AS shape, n, first, last FROM (
      SELECT team_id, ${column} AS state, count() AS n, min(created_at) AS first, max(created_at) AS last
      FROM (${ROWS(column, once)}) WHERE ${column} NOT IN ('', '{}') GROUP BY team_id, state)`)
}
