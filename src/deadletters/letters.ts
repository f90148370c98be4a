/**
 * Dead letters as ClickHouse holds them, with what was decided about each. In: a filter. Out: pages of letters without
 * their bytes, or one letter with them. Nothing is held but a page: 200,000 letters a second and core, most of it in
 * Postgres, which is asked once a page. Pages follow the table's sort key, so that a page reads its part of it.
 */
import type { Sql } from '../catalog/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { readDecisions } from './decisions.ts'
import {
  type Decision,
  LETTER_STATES,
  type Letter,
  type LetterFilter,
  type LetterKey,
  type LetterState,
} from './letter.ts'

export type LetterDeps = { sql: Sql; warehouse: Warehouse }

const PAGE_LETTERS = 10_000

type Row = {
  log_id: string
  partition: number
  offset: number
  sub: number
  step: string
  team_id: number
  uuid: string
  event: string
  distinct_id: string
  reason: string
  detail: string
  at_ms: number
  bytes: number
  has_record: number
}

/** Pages of the letters that the filter lets through and whose state is one of `states`; order: the table's. */
export async function* selectLetters(
  deps: LetterDeps,
  filter: LetterFilter,
  states: ReadonlySet<LetterState>,
  pageLetters = PAGE_LETTERS,
): AsyncGenerator<Letter[]> {
  const { where, params } = conditions(filter)
  let after: Row | undefined
  for (;;) {
    const rows: Row[] = await deps.warehouse.query<Row>(pageQuery(where, after), {
      ...params,
      ...(after ? afterParams(after) : {}),
      limit: pageLetters,
    })
    after = rows.at(-1)
    const letters = await withDecisions(deps.sql, rows)
    yield letters.filter(({ state }) => states.has(state))
    if (rows.length < pageLetters) return
  }
}

/** All letters of a uuid or a source. */
export async function findLetters(
  deps: LetterDeps,
  filter: Pick<LetterFilter, 'uuid' | 'source'>,
): Promise<Letter[]> {
  const letters: Letter[] = []
  for await (const page of selectLetters(deps, filter, new Set(LETTER_STATES))) letters.push(...page)
  return letters
}

export type LetterBytes = { header: Buffer; value: Buffer }

/** The original bytes of letters of one raw partition, by `offset/sub/step`. One that is gone is absent. */
export async function readBytes(
  warehouse: Warehouse,
  letters: readonly (LetterKey & { teamId: number; atMs: number })[],
): Promise<Map<string, LetterBytes>> {
  const [first] = letters
  if (!first) return new Map()
  type BytesRow = { offset: number; sub: number; step: string; header: string; value: string }
  const rows = await warehouse.query<BytesRow>(
    `SELECT _offset AS offset, _sub AS sub, step, any(base64Encode(raw_header)) AS header, any(base64Encode(raw_value)) AS value
     FROM dead_letters
     WHERE team_id IN {teams:Array(Int64)}
       AND timestamp BETWEEN fromUnixTimestamp64Milli({from:Int64}) AND fromUnixTimestamp64Milli({to:Int64})
       AND _log_id = {log:UUID} AND _partition = {partition:UInt16} AND _offset IN {offsets:Array(UInt64)}
     GROUP BY _offset, _sub, step`,
    {
      teams: [...new Set(letters.map(({ teamId }) => teamId))],
      from: Math.min(...letters.map(({ atMs }) => atMs)),
      to: Math.max(...letters.map(({ atMs }) => atMs)),
      log: first.logId,
      partition: first.partition,
      offsets: letters.map(({ offset }) => offset),
    },
  )
  return new Map(
    rows.map(({ offset, sub, step, header, value }) => [
      bytesKey({ offset, sub, step }),
      { header: Buffer.from(header, 'base64'), value: Buffer.from(value, 'base64') },
    ]),
  )
}

export function bytesKey({ offset, sub, step }: Pick<LetterKey, 'offset' | 'sub' | 'step'>): string {
  return `${offset}/${sub}/${step}`
}

const SORT_KEY = 'team_id, toDate(timestamp), _log_id, _partition, _offset, _sub, step'
const AFTER =
  "({a_team:Int64}, toDate(fromUnixTimestamp64Milli({a_ms:Int64}, 'UTC')), {a_log:UUID}, {a_partition:UInt16}, {a_offset:UInt64}, {a_sub:UInt16}, {a_step:String})"

/** A copy that no merge has removed yet has the same sort key, hence `LIMIT 1 BY`. */
function pageQuery(where: readonly string[], after: Row | undefined): string {
  // The second condition says less than the first, in words that the primary key understands.
  const all = after ? [...where, `(${SORT_KEY}) > ${AFTER}`, 'team_id >= {a_team:Int64}'] : where
  return `
    SELECT _log_id AS log_id, _partition AS partition, _offset AS offset, _sub AS sub, step, team_id, uuid, event,
      distinct_id, reason, detail, toUnixTimestamp64Milli(timestamp) AS at_ms,
      length(raw_header) + length(raw_value) AS bytes, notEmpty(raw_header) AS has_record
    FROM dead_letters ${all.length > 0 ? `WHERE ${all.join(' AND ')}` : ''}
    ORDER BY ${SORT_KEY} LIMIT 1 BY ${SORT_KEY} LIMIT {limit:UInt32}`
}

function afterParams(row: Row): Record<string, unknown> {
  return {
    a_team: row.team_id,
    a_ms: row.at_ms,
    a_log: row.log_id,
    a_partition: row.partition,
    a_offset: row.offset,
    a_sub: row.sub,
    a_step: row.step,
  }
}

function conditions(filter: LetterFilter): { where: string[]; params: Record<string, unknown> } {
  const where: string[] = []
  const params: Record<string, unknown> = {}
  const add = (name: string, value: unknown, condition: string) => {
    if (value === undefined) return
    where.push(condition)
    params[name] = value
  }
  add('team', filter.teamId, 'team_id = {team:Int64}')
  add('reason', filter.reason, 'reason = {reason:String}')
  add('of_step', filter.step, 'step = {of_step:String}')
  add('event', filter.event, 'event = {event:String}')
  add('distinct_id', filter.distinctId, 'distinct_id = {distinct_id:String}')
  add('uuid', filter.uuid, 'uuid = {uuid:UUID}')
  add('from', filter.fromMs, 'timestamp >= fromUnixTimestamp64Milli({from:Int64})')
  add('to', filter.toMs, 'timestamp < fromUnixTimestamp64Milli({to:Int64})')
  add('log', filter.source?.logId, '_log_id = {log:UUID}')
  add('partition', filter.source?.partition, '_partition = {partition:UInt16}')
  add('offset', filter.source?.offset, '_offset = {offset:UInt64}')
  return { where, params }
}

async function withDecisions(sql: Sql, rows: readonly Row[]): Promise<Letter[]> {
  const keys = rows.map(({ log_id, partition, offset, sub, step }) => ({
    logId: log_id,
    partition,
    offset,
    sub,
    step,
  }))
  const decisions = await readDecisions(sql, keys)
  return rows.map((row, i) => {
    const decision = decisions[i]
    return {
      ...keys[i]!,
      teamId: row.team_id,
      uuid: row.uuid,
      event: row.event,
      distinctId: row.distinct_id,
      reason: row.reason,
      detail: row.detail,
      atMs: row.at_ms,
      bytes: row.bytes,
      hasRecord: row.has_record === 1,
      state: stateOf(decision),
      decision,
    }
  })
}

function stateOf(decision: Decision | undefined): LetterState {
  if (!decision) return 'open'
  return decision.state === 'planned' || decision.state === 'sending' ? 'replaying' : decision.state
}
