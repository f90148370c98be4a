/**
 * Statements of ClickHouse that may take longer than anybody waits for an answer: a mutation, an insert of what is there. The
 * answer may be lost, the work goes on: it is waited for until no node has it under way. Nothing here concludes from the
 * silence that it was done; the caller asks for the rows afterwards, or the statement is sent again, which finds little to do.
 */
import { randomUUID } from 'node:crypto'
import { HeadraceError, type Table } from '../event/index.ts'
import { localName, type QueryParameters, systemTable, type Warehouse } from '../warehouse/index.ts'

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

/** An `INSERT … SELECT`: resolves when it was answered, or when it runs no more. */
export async function insertSelect(deps: Deps, statement: string): Promise<void> {
  const mark = `headrace ${randomUUID()}`
  try {
    await deps.warehouse.command(`${statement} /* ${mark} */`)
  } catch (error) {
    if (!isUnanswered(error)) throw error
    await untilNone(
      deps,
      `SELECT count() AS busy FROM ${systemTable(deps.warehouse, 'processes')} WHERE query_kind = 'Insert' AND position(query, {mark:String}) > 0`,
      { mark },
    )
  }
}

function untilIdle(deps: Deps, table: Table): Promise<void> {
  const of = `database = currentDatabase() AND table = {local:String}`
  return untilNone(
    deps,
    `SELECT (SELECT count() FROM ${systemTable(deps.warehouse, 'merges')} WHERE ${of})
       + (SELECT count() FROM ${systemTable(deps.warehouse, 'mutations')} WHERE ${of} AND NOT is_done AND latest_fail_reason = '') AS busy`,
    { local: localName(deps.warehouse, table) },
  )
}

/** Throws when ClickHouse does not answer this question either. */
async function untilNone(
  { warehouse, hold }: Deps,
  question: string,
  parameters: QueryParameters,
): Promise<void> {
  for (;;) {
    await hold()
    const [row] = await warehouse.query<{ busy: number }>(question, parameters)
    if (row!.busy === 0) return
    await Bun.sleep(LOOK_AGAIN_MS)
  }
}

function isUnanswered(error: unknown): boolean {
  return error instanceof HeadraceError && error.code === 'HR_WAREHOUSE_UNAVAILABLE'
}
