/**
 * Orders to delete, in Postgres: who ordered what, when, why, and how far it is. One order per subject is open at a time;
 * giving it again goes on with it.
 *
 *   asked ──taken out──▶ taken ──ends of the raw log noted──▶ erasing ──piece by piece──▶ done
 *
 * When it is done, what a person was is forgotten: uuid, distinct ids and all. What stays is that it happened.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { deletionError } from './errors.ts'

/** What it is about. */
export type Subject = { uuid: string } | { distinctId: string } | { project: string }

export type Position = {
  logId: string
  topic: string
  partition: number
  /** Of a person: everything below was decided when it was taken out of Postgres, nothing from there on. */
  decided: number
  /** The end of the raw log after it was taken out: what was decided later with what was read before lies below. */
  end: number
}

/** The part of ClickHouse that is being erased: the rows of `chunk` (conditions.ts) in one month of one table. */
export type Piece = { table: string; chunk: number; month: string }

export type Counts = { persons?: number; distinctIds?: number } & Record<string, number>

export type DeletionState = 'asked' | 'taken' | 'erasing' | 'done'

export type Deletion = {
  id: string
  kind: 'person' | 'project'
  teamId: number
  subject: Subject | undefined
  by: string
  why: string
  state: DeletionState
  version: number
  positions: Position[]
  piece: Piece | undefined
  counts: Counts
  /** Epoch ms. */
  createdMs: number
  endedMs: number | undefined
}

type Row = Omit<Deletion, 'subject' | 'version' | 'positions' | 'piece' | 'endedMs'> & {
  subject: Subject | null
  version: number | null
  positions: Position[] | null
  piece: Piece | null
  endedMs: number | null
}

export type Order = { teamId: number; kind: Deletion['kind']; subject: Subject; by: string; why: string }

/** The open order for this subject; made when there is none. */
export async function openOrder(sql: Sql, order: Order): Promise<Deletion> {
  const { teamId, kind, subject, by, why } = order
  await guardState('order a deletion', () =>
    transaction(sql, async (tx) => {
      // Who plans to send dead letters again shares this lock: what is planned later knows of the order.
      await tx`SELECT FROM project WHERE team_id = ${teamId} FOR NO KEY UPDATE`
      await tx`
        INSERT INTO deletion (id, kind, team_id, subject, asked_by, why)
        VALUES (${Bun.randomUUIDv7()}, ${kind}, ${teamId}, ${JSON.stringify(subject)}::text::jsonb, ${by}, ${why})
        ON CONFLICT (team_id, kind, subject) WHERE state <> 'done' DO NOTHING`
    }),
  )
  const open = await findOrder(sql, order)
  if (!open) throw deletionError('HR_DELETION_CHANGED', 'the order was carried out meanwhile')
  return open
}

/** The open order for this subject, if there is one. */
export async function findOrder(
  sql: Sql,
  { teamId, kind, subject }: Pick<Order, 'teamId' | 'kind' | 'subject'>,
): Promise<Deletion | undefined> {
  const [row] = await guardState(
    'look for a deletion',
    () => sql<Row[]>`
      SELECT ${columns(sql)} FROM deletion
      WHERE team_id = ${teamId} AND kind = ${kind} AND subject = ${JSON.stringify(subject)}::text::jsonb AND state <> 'done'`,
  )
  return row && deletionOf(row)
}

/** The newest orders of one kind, or those of one project. */
export async function listOrders(
  sql: Sql,
  kind: Deletion['kind'],
  teamId?: number,
  limit = 100,
): Promise<Deletion[]> {
  const rows = await guardState(
    'read deletions',
    () => sql<Row[]>`
      SELECT ${columns(sql)} FROM deletion
      WHERE kind = ${kind} AND (${teamId ?? null}::int IS NULL OR team_id = ${teamId ?? null}::int)
      ORDER BY created_at DESC LIMIT ${limit}`,
  )
  return rows.map(deletionOf)
}

export async function readOrder(sql: Sql, id: string): Promise<Deletion> {
  const [row] = await guardState(
    'read a deletion',
    () => sql<Row[]>`SELECT ${columns(sql)} FROM deletion WHERE id = ${id}`,
  )
  if (!row) throw deletionError('HR_DELETION_CHANGED', `there is no deletion ${id}`)
  return deletionOf(row)
}

/** The ends of the raw log are known: from now on rows are erased. */
export async function notePositions(sql: Sql, id: string, positions: readonly Position[]): Promise<void> {
  await moved(
    'note the positions of a deletion',
    () => sql`
      UPDATE deletion SET state = 'erasing', positions = ${JSON.stringify(positions)}::text::jsonb
      WHERE id = ${id} AND state = 'taken'`,
  )
}

/** Begins a piece, in the transaction that records its rows. */
export async function beginPiece(tx: Transaction, id: string, piece: Piece): Promise<void> {
  await moved(
    'begin a piece of a deletion',
    () => tx`
      UPDATE deletion SET piece = ${JSON.stringify(piece)}::text::jsonb
      WHERE id = ${id} AND state = 'erasing' AND piece IS NULL`,
  )
}

/** Ends it, in the transaction that marks its rows as gone. */
export async function endPiece(tx: Transaction, id: string, table: string, rows: number): Promise<void> {
  await moved(
    'end a piece of a deletion',
    () => tx`
      UPDATE deletion SET piece = NULL,
        counts = counts || jsonb_build_object(${table}::text, coalesce((counts ->> ${table}::text)::bigint, 0) + ${rows}::bigint)
      WHERE id = ${id} AND piece IS NOT NULL`,
  )
}

/** Everything is gone. */
export async function endOrder(tx: Transaction, id: string): Promise<void> {
  await moved(
    'end a deletion',
    () => tx`
      UPDATE deletion SET state = 'done', ended_at = now()
      WHERE id = ${id} AND state = 'erasing' AND piece IS NULL`,
  )
}

async function moved(what: string, update: () => PromiseLike<{ count: number }>): Promise<void> {
  const done = await guardState(what, async () => await update())
  if (done.count === 0) throw deletionError('HR_DELETION_CHANGED', `${what}: it is not where it was left`)
}

function columns(sql: Sql) {
  return sql`id, kind, team_id AS "teamId", subject, asked_by AS by, why, state, version, positions, piece, counts,
    (extract(epoch FROM created_at) * 1000)::float8 AS "createdMs",
    (extract(epoch FROM ended_at) * 1000)::float8 AS "endedMs"`
}

function deletionOf({ subject, version, positions, piece, endedMs, ...row }: Row): Deletion {
  return {
    ...row,
    subject: subject ?? undefined,
    version: version ?? 0,
    positions: positions ?? [],
    piece: piece ?? undefined,
    endedMs: endedMs ?? undefined,
  }
}
