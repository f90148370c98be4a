/**
 * One try to bring rows into ClickHouse under the token of their intent. In: the rows that are to be sent, of an intent that
 * is held. Out: those that ClickHouse refuses, or none. What must hold: of what is called refused, nothing can land any more
 * under this token, so that its rows may go on under others; and no try begins long after the lock was confirmed.
 *
 * Months go in one insert, or each in one of its own, as each is written by itself and needs memory of its own; the token is
 * the same, as ClickHouse remembers it for each month. So a month alone may be on its way, of a try before, when all of them
 * together are refused for a row of another month. That is why nothing is concluded then: each month goes alone, the refused
 * ones are passed over, and of the others the token is used up.
 */
import { type HeadraceError, isRejected, TABLE_OF_TOPIC, type Table, TOPICS } from '../event/index.ts'
import type { LoadFailpoint } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { byMonth } from './batch.ts'
import type { Hold } from './hold-intent.ts'
import { loadMetrics } from './metrics.ts'
import type { Pace } from './pace.ts'
import type { BufferedRow } from './partition-input.ts'

type Deps = {
  warehouse: Warehouse
  clock: () => number
  pace: Pace
  reached: (step: LoadFailpoint) => Promise<void> | void
}

/** `doubtful`: some of it may have been sent before. `monthsApart`: there is no memory for all months at once. */
export type Sending = { table: string; doubtful: boolean; monthsApart: boolean }

export type Refusal = { rows: readonly BufferedRow[]; error: HeadraceError }

/**
 * So often ClickHouse must refuse an insert: a body that was cut on its way is refused, too. A first try is believed, since
 * halves of a good insert do no harm; after another try, which may be on its way still, they would.
 */
const REFUSALS = { alone: 3, doubtful: 2, else: 1 }

export const TABLES: ReadonlyMap<string, Table> = new Map(
  Object.values(TABLE_OF_TOPIC).map((table) => [table.name, table]),
)

/** Throws HR_LOAD_LOCK_LOST, and of HR_WAREHOUSE_* what is not about the rows; months may be in then, others not. */
export async function sendRows(
  deps: Deps,
  hold: Hold,
  rows: readonly BufferedRow[],
  sending: Sending,
): Promise<Refusal | undefined> {
  const sentMs = deps.clock()
  const months = byMonth(rows)
  deps.pace.sent(sentMs, months.length)
  let bytes = 0
  const send = async (some: readonly BufferedRow[]) => {
    const error = await sendOnce(deps, hold, some, sending)
    if (!error) bytes = Math.max(bytes, count(deps, sending.table, some))
    return error
  }
  const refusal = await sendMonths(months, rows, sending, send)
  const nowMs = deps.clock()
  if (bytes > 0) deps.pace.taken(nowMs, nowMs - sentMs, bytes)
  return refusal
}

async function sendMonths(
  months: readonly BufferedRow[][],
  rows: readonly BufferedRow[],
  { doubtful, monthsApart }: Sending,
  send: (some: readonly BufferedRow[]) => Promise<HeadraceError | undefined>,
): Promise<Refusal | undefined> {
  if (!monthsApart || months.length === 1) {
    const error = await send(rows)
    if (!error) return undefined
    if (!doubtful || months.length === 1) return { rows, error }
  }
  const refused: BufferedRow[] = []
  let last: HeadraceError | undefined
  for (const month of months) {
    const error = await send(month)
    if (!error) continue
    refused.push(...month)
    last = error
  }
  return last && { rows: refused, error: last }
}

/** Gives the last refusal, or undefined when the rows are taken. */
async function sendOnce(
  deps: Deps,
  { intent, confirm }: Hold,
  rows: readonly BufferedRow[],
  { table, doubtful }: Sending,
): Promise<HeadraceError | undefined> {
  const tries = intent.rows === 1 ? REFUSALS.alone : doubtful ? REFUSALS.doubtful : REFUSALS.else
  let refusal: HeadraceError | undefined
  for (let attempt = 0; attempt < tries; attempt++) {
    await deps.reached('insert_sent')
    const beforeRows = await confirm()
    const startMs = deps.clock()
    try {
      await deps.warehouse.insertRows({
        table: TABLES.get(table)!,
        rows: rows.map(({ row }) => row),
        token: intent.id,
        beforeRows,
      })
      loadMetrics.insertSeconds.observe({ table }, (deps.clock() - startMs) / 1000)
      return undefined
    } catch (error) {
      if (!isRejected(error)) throw error
      refusal = error as HeadraceError
    }
  }
  return refusal
}

/** An insert was taken; gives its bytes. */
function count(deps: Deps, table: string, rows: readonly BufferedRow[]): number {
  const nowMs = deps.clock()
  let bytes = 0
  let oldestMs = nowMs
  for (const { row, appendedMs } of rows) {
    bytes += row.length
    if (appendedMs < oldestMs) oldestMs = appendedMs
  }
  loadMetrics.rows.inc({ table }, rows.length)
  loadMetrics.bytes.inc({ table }, bytes)
  loadMetrics.inserts.inc({ table })
  if (table === TOPICS.events) loadMetrics.freshness.observe((nowMs - oldestMs) / 1000)
  return bytes
}
