/**
 * Takes the rows of a deletion out of ClickHouse, piece by piece (a chunk of its targets, in one month of one table):
 *
 *   rows there ──recorded, with the piece, in one transaction──▶ on record ──mutation──▶ gone ──▶ record carried out
 *
 * What must hold: what is recorded is what goes. So this runs only when everything below the positions is loaded (no row
 * can come in between), under the lock that keeps repairs out, and a piece that was cut off is carried out as it was
 * recorded: who counted anew would miss what is gone already. Which pieces are left is asked of ClickHouse each time.
 * Cost: a mutation per piece, which writes the parts anew that hold such rows. Memory: the places of 200 cells.
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import { DEAD_LETTERS } from '../event/index.ts'
import { ERASURE_CELL_OFFSETS, finishErasures, recordErasures } from '../ledger/index.ts'
import { failpoint } from '../platform/index.ts'
import { countedRows } from '../repair/index.ts'
import { changeRows, type Warehouse } from '../warehouse/index.ts'
import { ROW_TABLES } from './conditions.ts'
import { beginPiece, type Deletion, endPiece, type Piece } from './orders.ts'

export type EraseDeps = {
  sql: Sql
  warehouse: Warehouse
  /** Throws once somebody else may change rows. */
  hold: () => Promise<void>
  says: (sentence: string) => void
}

/** The rows of chunk `chunk` in `table`, as a condition. */
export type RowsWhere = (table: string, chunk: number) => string

/** Cells of one question: at most 10,000 places each. */
const PAGE_CELLS = 200

/** Erases everything that `where` says for `chunks` chunks; goes on where an earlier run was cut off. */
export async function eraseRows(
  deps: EraseDeps,
  deletion: Deletion,
  chunks: number,
  where: RowsWhere,
): Promise<void> {
  if (deletion.piece) await carryOut(deps, deletion.id, deletion.piece, where)
  for (const table of ROW_TABLES) {
    for (let chunk = 0; chunk < chunks; chunk++) {
      const condition = where(table, chunk)
      for (const month of await monthsWith(deps.warehouse, table, condition)) {
        const piece = { table, chunk, month }
        await record(deps, deletion.id, piece, condition)
        failpoint('erasure_recorded')
        await carryOut(deps, deletion.id, piece, where)
      }
    }
  }
}

/** Rows by table; copies count. */
export async function countRows(
  warehouse: Warehouse,
  chunks: number,
  where: RowsWhere,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const table of ROW_TABLES) {
    counts[table] = 0
    for (let chunk = 0; chunk < chunks; chunk++)
      counts[table] += await count(warehouse, table, where(table, chunk))
  }
  return counts
}

async function record(deps: EraseDeps, id: string, piece: Piece, condition: string): Promise<void> {
  const { table, month } = piece
  await deps.hold()
  await guardState('record what is erased', () =>
    transaction(deps.sql, async (tx) => {
      await beginPiece(tx, id, piece)
      for await (const cell of cellsOf(deps.warehouse, table, inMonth(condition, month)))
        await recordErasures(tx, { id, state: 'erased' }, table, cell, cell.places)
    }),
  )
}

type Cell = { logId: string; partition: number; cell: number; places: { offset: number; sub: number }[] }

async function* cellsOf(warehouse: Warehouse, table: string, condition: string): AsyncGenerator<Cell> {
  let after = ''
  for (;;) {
    const page = await warehouse.query<{ l: string; p: number; c: number; places: [number, number][] }>(
      `SELECT _log_id AS l, _partition AS p, intDiv(_offset, ${ERASURE_CELL_OFFSETS}) AS c,
         groupUniqArray((_offset, _sub)) AS places
       FROM ${table} WHERE ${condition} AND ${counted(table)}${after} GROUP BY l, p, c ORDER BY l, p, c LIMIT ${PAGE_CELLS}`,
    )
    for (const { l, p, c, places } of page)
      yield {
        logId: l,
        partition: p,
        cell: c,
        places: places.map(([offset, sub]) => ({ offset, sub })),
      }
    const last = page.at(-1)
    if (!last || page.length < PAGE_CELLS) return
    after = ` AND (_log_id, _partition, intDiv(_offset, ${ERASURE_CELL_OFFSETS})) > (toUUID('${last.l}'), ${last.p}, ${last.c})`
  }
}

/** A letter of state that ClickHouse refused is no row that a receipt counts; it goes without a record. */
function counted(table: string): string {
  return table === DEAD_LETTERS.name ? countedRows(DEAD_LETTERS) : '1'
}

async function carryOut(
  { sql, warehouse, hold, says }: EraseDeps,
  id: string,
  { table, chunk, month }: Piece,
  where: RowsWhere,
): Promise<void> {
  await hold()
  await changeRows(warehouse, { table, month, what: 'DELETE', where: where(table, chunk) }, says)
  failpoint('erasure_carried_out')
  await guardState('mark what is erased', () =>
    transaction(sql, async (tx) => {
      const [open] = await tx<{ rows: number }[]>`
        SELECT coalesce(sum(rows), 0)::bigint AS rows FROM erasures WHERE run_id = ${id} AND erased_at IS NULL`
      await finishErasures(tx, id)
      await endPiece(tx, id, table, open!.rows)
    }),
  )
}

async function monthsWith(warehouse: Warehouse, table: string, condition: string): Promise<string[]> {
  const rows = await warehouse.query<{ month: string }>(
    `SELECT DISTINCT toString(toYYYYMM(timestamp)) AS month FROM ${table} WHERE ${condition} ORDER BY month`,
  )
  return rows.map(({ month }) => month)
}

function inMonth(condition: string, month: string): string {
  return `${condition} AND toYYYYMM(timestamp) = ${month}`
}

async function count(warehouse: Warehouse, table: string, condition: string): Promise<number> {
  const [row] = await warehouse.query<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${condition}`)
  return row!.n
}
