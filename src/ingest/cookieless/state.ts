/**
 * The rows of visitors in Postgres: what a batch asks for, reads, locks and writes. Parameters go as one JSON text.
 * About 30 µs per visitor and batch in Postgres, most of it the write, and 15 here.
 */
import type { Sql, Transaction } from '../../catalog/index.ts'
import type { Visit } from './judge.ts'
import { distinctIdOf, type Visitor } from './visitor.ts'
import {
  type Session,
  type VisitorState,
  type VisitorStates,
  type VisitorWrite,
  visitorKey,
} from './visitors.ts'

type Queryable = Sql | Transaction

/** The visitors of a batch, each once. */
export type WantedVisitors = readonly Visitor[]

export function wantedVisitors(visits: readonly Visit[]): WantedVisitors {
  const wanted = new Map<string, Visitor>()
  for (const { visitor } of visits) {
    const key = visitorKey(visitor)
    if (!wanted.has(key)) wanted.set(key, visitor)
  }
  return [...wanted.values()]
}

/** The parameter of the SQL function visitor_distinct_ids, too. */
export function visitorsJson(wanted: WantedVisitors): string {
  return JSON.stringify(
    wanted.map(({ day, teamId, baseHash }, i) => ({ d: day, t: teamId, h: baseHash.toString('hex'), i })),
  )
}

type VisitorRow = {
  i: number
  identifies: number
  current_hash: string
  session_id: string | null
  active_ms: number | null
  before_session_id: string | null
  before_active_ms: number | null
  version: number
}

/** One round trip, without locks; none when nothing is wanted. */
export async function readVisitors(sql: Queryable, wanted: WantedVisitors): Promise<VisitorStates> {
  const states = new Map<string, VisitorState>()
  if (wanted.length === 0) return states
  const rows = await sql<VisitorRow[]>`
    SELECT r.i, v.identifies, v.current_hash, v.session_id, v.active_ms, v.before_session_id, v.before_active_ms,
      v.version
    FROM jsonb_to_recordset(${visitorsJson(wanted)}::text::jsonb) AS r(d date, t integer, h uuid, i integer)
    JOIN cookieless_visitor v ON v.day = r.d AND v.team_id = r.t AND v.base_hash = r.h`
  for (const row of rows) {
    states.set(visitorKey(wanted[row.i]!), {
      identifies: row.identifies,
      currentHash: Buffer.from(row.current_hash.replaceAll('-', ''), 'hex'),
      session: session(row.session_id, row.active_ms),
      sessionBefore: session(row.before_session_id, row.before_active_ms),
      version: row.version,
    })
  }
  return states
}

function session(id: string | null, activeMs: number | null): Session | undefined {
  return id === null || activeMs === null ? undefined : { id, activeMs }
}

/** What the SQL function visitor_distinct_ids says when it sees these states. */
export function currentIds(
  wanted: WantedVisitors,
  states: VisitorStates,
): [teamId: number, distinctId: string][] {
  return wanted.flatMap((visitor): [number, string][] => {
    const state = states.get(visitorKey(visitor))
    return state && state.identifies > 0 ? [[visitor.teamId, distinctIdOf(state.currentHash)]] : []
  })
}

/** For the locked way of a commit: behind the locks of its persons, and before a read in a new statement. */
export async function lockVisitors(tx: Transaction, wanted: WantedVisitors): Promise<void> {
  if (wanted.length === 0) return
  await tx`
    SELECT FROM cookieless_visitor v
    JOIN jsonb_to_recordset(${visitorsJson(wanted)}::text::jsonb) AS r(d date, t integer, h uuid)
      ON v.day = r.d AND v.team_id = r.t AND v.base_hash = r.h
    ORDER BY v.day, v.team_id, v.base_hash FOR NO KEY UPDATE OF v`
}

/** The parameter of the SQL function apply_visitors; null when there is nothing to write. */
export function visitorWritesJson(writes: readonly VisitorWrite[]): string | null {
  if (writes.length === 0) return null
  return JSON.stringify(
    writes.map(({ visitor, state }) => ({
      d: visitor.day,
      t: visitor.teamId,
      h: visitor.baseHash.toString('hex'),
      n: state.identifies,
      c: state.currentHash.toString('hex'),
      s: state.session?.id,
      a: state.session?.activeMs,
      r: state.sessionBefore?.id,
      b: state.sessionBefore?.activeMs,
      e: state.version,
    })),
  )
}
