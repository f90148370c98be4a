/**
 * A squash as Postgres knows it: one is open at a time, and whoever comes next goes on with it.
 *
 *   asked ──snapshot, ends of the raw log──▶ snapped ──all below the ends is loaded──▶ writing ──▶ removing ──▶ done
 *     ▲                                         │                                        │
 *     └──────── ClickHouse has another snapshot than was noted (it was restored) ◀───────┘
 *
 * One that was cut off while it removed goes back to `writing`: a repair may have been at work in between.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import type { RawEnd } from '../repair/index.ts'
import { squashError } from './errors.ts'

export type SquashState = 'asked' | 'snapped' | 'writing' | 'removing' | 'done'

export type Snapshot = { keys: number; hash: string }

export type SquashCounts = { events?: number; overrides?: number }

export type Squash = {
  id: string
  by: string
  state: SquashState
  /** Epoch ms. */
  beforeMs: number
  snapshot: Snapshot | undefined
  ends: RawEnd[]
  counts: SquashCounts
}

type Row = Omit<Squash, 'snapshot' | 'ends'> & { snapshot: Snapshot | null; ends: RawEnd[] | null }

/** The open one, whatever its cutoff; else a new one. */
export async function openSquash(sql: Sql, beforeMs: number, by: string): Promise<Squash> {
  return guardState('open a squash', async () => {
    await sql`
      INSERT INTO squash (id, asked_by, before) VALUES (${Bun.randomUUIDv7()}, ${by}, to_timestamp(${beforeMs} / 1000.0))
      ON CONFLICT ((true)) WHERE state <> 'done' DO NOTHING`
    const [row] = await sql<Row[]>`SELECT ${columns(sql)} FROM squash WHERE state <> 'done'`
    if (!row) throw squashError('HR_SQUASH_CHANGED', 'the squash ended meanwhile')
    return squashOf(row)
  })
}

export type Move = {
  to: SquashState
  snapshot?: Snapshot
  ends?: readonly RawEnd[]
  counts?: SquashCounts
}

/** From exactly the state in which `squash` was read. Throws HR_SQUASH_CHANGED. */
export async function moveSquash(sql: Sql, { id, state }: Squash, move: Move): Promise<Squash> {
  return guardState('go on with a squash', async () => {
    const [row] = await sql<Row[]>`
      UPDATE squash SET state = ${move.to},
        snapshot = coalesce(${move.snapshot ? JSON.stringify(move.snapshot) : null}::text::jsonb, snapshot),
        ends = coalesce(${move.ends ? JSON.stringify(move.ends) : null}::text::jsonb, ends),
        counts = counts || ${JSON.stringify(move.counts ?? {})}::text::jsonb,
        ended_at = CASE WHEN ${move.to} = 'done' THEN now() END
      WHERE id = ${id} AND state = ${state}
      RETURNING ${columns(sql)}`
    if (!row) throw squashError('HR_SQUASH_CHANGED', `the squash is not ${state} any more`)
    return squashOf(row)
  })
}

function columns(sql: Sql) {
  return sql`id, asked_by AS by, state, (extract(epoch FROM before) * 1000)::float8 AS "beforeMs", snapshot, ends, counts`
}

function squashOf({ snapshot, ends, ...row }: Row): Squash {
  return { ...row, snapshot: snapshot ?? undefined, ends: ends ?? [] }
}
