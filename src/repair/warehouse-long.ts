/**
 * Statements of ClickHouse that may take longer than anybody waits for an answer: a mutation, an insert of what is there. The
 * answer may be lost, the work goes on: it is waited for until no node has it under way. Nothing here concludes from the
 * silence that it was done; the caller asks for the rows afterwards, or the statement is sent again, which finds little to do.
 */
import { HeadraceError, type Table } from '../event/index.ts'
import {
  localName,
  markedCopy,
  systemTable,
  untilNothingIsCopied,
  type Warehouse,
} from '../warehouse/index.ts'

type Deps = { warehouse: Warehouse; hold: () => Promise<void> }

const LOOK_AGAIN_MS = 500
/** Without an answer each time; each is followed by a wait for what is under way. */
const SENT_MAX = 5

/** A mutation, which does nothing when it is sent again: resolves when it was answered. */
export async function mutate(deps: Deps, table: Table, statement: string): Promise<void> {
  for (let sent = 1; ; sent++) {
    try {
      return await deps.warehouse.command(statement)
    } catch (error) {
      if (!isUnanswered(error) || sent === SENT_MAX) throw error
      await untilIdle(deps, table)
    }
  }
}

/** An `INSERT … SELECT … SETTINGS …`: resolves when it was answered, or when it runs no more. */
export async function insertSelect({ warehouse, hold }: Deps, statement: string): Promise<void> {
  try {
    await warehouse.command(markedCopy(statement))
  } catch (error) {
    if (!isUnanswered(error)) throw error
    await untilNothingIsCopied(warehouse, hold)
  }
}

/** Throws when ClickHouse does not answer this question either. */
async function untilIdle({ warehouse, hold }: Deps, table: Table): Promise<void> {
  const of = `database = currentDatabase() AND table = {local:String}`
  for (;;) {
    await hold()
    const [row] = await warehouse.query<{ busy: number }>(
      `SELECT (SELECT count() FROM ${systemTable(warehouse, 'merges')} WHERE ${of} AND is_mutation)
         + (SELECT count() FROM ${systemTable(warehouse, 'mutations')} WHERE ${of} AND NOT is_done AND latest_fail_reason = '') AS busy`,
      { local: localName(warehouse, table) },
    )
    if (row!.busy === 0) return
    await Bun.sleep(LOOK_AGAIN_MS)
  }
}

function isUnanswered(error: unknown): boolean {
  return error instanceof HeadraceError && error.code === 'HR_WAREHOUSE_UNAVAILABLE'
}
