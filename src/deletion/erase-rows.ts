/**
 * Takes the rows of a deletion out of ClickHouse, piece by piece (a chunk of its targets, in one month of one table):
 *
 *   rows there ──recorded, with the piece, in one transaction──▶ on record ──mutation──▶ gone ──▶ record carried out
 *
 * What must hold: what is recorded is what goes. So this runs only when everything below the positions is loaded (no row
 * can come in between), under the lock that keeps repairs out. A piece that was cut off is carried out as it was recorded, with
 * what is there besides: who counted anew would miss what is gone already. Which pieces are left is asked of ClickHouse
 * each time.
 * Cost: a walk through each month, and a mutation per piece, which writes the parts anew that hold such rows. Memory: a number
 * per 10,000 offsets of a month, and the places of 200,000 rows.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { DEAD_LETTERS, type Place } from '../event/index.ts'
import { ERASURE_CELL_OFFSETS, finishErasures, recordErasures } from '../ledger/index.ts'
import { failpoint } from '../platform/index.ts'
import { countedRows } from '../repair/index.ts'
import { changeRows, monthsOf, type Warehouse } from '../warehouse/index.ts'
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

/** Rows whose places one question gives: 20 MB as text. */
const PAGE_ROWS = 200_000

/**
 * Ends the piece at which an earlier run was cut off, if there is one. A repair may have brought back rows of it in between
 * that were missing when it was recorded: they go with the others, and are put on record with them.
 */
export async function endBegunPiece(
  deps: EraseDeps,
  { id, piece }: Pick<Deletion, 'id' | 'piece'>,
  where: RowsWhere,
): Promise<void> {
  if (!piece) return
  const condition = inMonth(where(piece.table, piece.chunk), piece.month)
  const cells = await cellsWith(deps.warehouse, piece.table, condition)
  await record(deps, id, piece, condition, cells, async () => {})
  await erasePiece(deps, id, piece, where)
}

/** Erases everything that `where` says for `chunks` chunks. No piece may be under way. */
export async function eraseRows(
  deps: EraseDeps,
  id: string,
  chunks: number,
  where: RowsWhere,
): Promise<void> {
  for (const table of ROW_TABLES) {
    for (const month of await monthsOf(deps.warehouse, { name: table })) {
      for (let chunk = 0; chunk < chunks; chunk++) {
        const condition = inMonth(where(table, chunk), month)
        const cells = await cellsWith(deps.warehouse, table, condition)
        if (cells.length === 0) continue
        const piece = { table, chunk, month }
        await record(deps, id, piece, condition, cells, (tx) => beginPiece(tx, id, piece))
        failpoint('erasure_recorded')
        await erasePiece(deps, id, piece, where)
      }
    }
  }
}

/** Rows by table; copies count. Asked month by month: no question walks through more than one. */
export async function countRows(
  warehouse: Warehouse,
  chunks: number,
  where: RowsWhere,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const table of ROW_TABLES) {
    counts[table] = 0
    for (const month of await monthsOf(warehouse, { name: table })) {
      for (let chunk = 0; chunk < chunks; chunk++)
        counts[table] += await count(warehouse, table, inMonth(where(table, chunk), month))
    }
  }
  return counts
}

async function record(
  deps: EraseDeps,
  id: string,
  piece: Piece,
  condition: string,
  cells: readonly Cell[],
  begin: (tx: Transaction) => Promise<void>,
): Promise<void> {
  const { table } = piece
  await deps.hold()
  await guardState('record what is erased', () =>
    transaction(deps.sql, async (tx) => {
      await begin(tx)
      for (const page of pagesOf(cells)) {
        const lane = page[0]!
        for (const places of await placesIn(deps.warehouse, table, condition, page))
          await recordErasures(tx, { id, state: 'erased' }, table, lane, places)
      }
    }),
  )
}

/** `rows`: those that are to be on record. */
type Cell = { logId: string; partition: number; cell: number; rows: number }

/** Where rows of the condition are, in order: one walk through the month, however many there are. */
function cellsWith(warehouse: Warehouse, table: string, condition: string): Promise<Cell[]> {
  return warehouse.query<Cell>(
    `SELECT toString(_log_id) AS logId, _partition AS partition, intDiv(_offset, ${ERASURE_CELL_OFFSETS}) AS cell,
       countIf(${counted(table)}) AS rows
     FROM ${table} WHERE ${condition} GROUP BY logId, partition, cell ORDER BY logId, partition, cell`,
  )
}

/** Neighbours of one raw partition, with as many rows as one question gives. */
function* pagesOf(cells: readonly Cell[]): Generator<Cell[]> {
  let page: Cell[] = []
  let rows = 0
  for (const cell of cells) {
    if (cell.rows === 0) continue
    const [first] = page
    const isNext = first && first.logId === cell.logId && first.partition === cell.partition
    if (first && (!isNext || rows + cell.rows > PAGE_ROWS)) {
      yield page
      page = []
      rows = 0
    }
    page.push(cell)
    rows += cell.rows
  }
  if (page.length > 0) yield page
}

/** The places in each of some cells of one raw partition: a read of their range of offsets. */
async function placesIn(
  warehouse: Warehouse,
  table: string,
  condition: string,
  cells: readonly Cell[],
): Promise<Place[][]> {
  const { logId, partition, cell: first } = cells[0]!
  const from = first * ERASURE_CELL_OFFSETS
  const to = (cells.at(-1)!.cell + 1) * ERASURE_CELL_OFFSETS
  const rows = await warehouse.query<{ places: [offset: number, sub: number][] }>(
    `SELECT groupUniqArray((_offset, _sub)) AS places FROM ${table}
     WHERE _log_id = toUUID('${logId}') AND _partition = ${partition} AND _offset >= ${from} AND _offset < ${to}
       AND ${condition} AND ${counted(table)}
     GROUP BY intDiv(_offset, ${ERASURE_CELL_OFFSETS})`,
  )
  return rows.map(({ places }) => places.map(([offset, sub]) => ({ offset, sub })))
}

/** A letter of state that ClickHouse refused is no row that a receipt counts; it goes without a record. */
function counted(table: string): string {
  return table === DEAD_LETTERS.name ? countedRows(DEAD_LETTERS) : '1'
}

async function erasePiece(
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

function inMonth(condition: string, month: string): string {
  return `(${condition}) AND toYYYYMM(timestamp) = ${month}`
}

async function count(warehouse: Warehouse, table: string, condition: string): Promise<number> {
  const [row] = await warehouse.query<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${condition}`)
  return row!.n
}
