/**
 * Deletes what an order is about: out of Postgres or behind a closed door, then out of ClickHouse. In: an order, and the plan
 * of its kind (person.ts, project.ts). Out: nothing of it is left that was decided before, the ledger knows how many rows
 * went, and a question to every table says so.
 *
 *   1 the plan takes it out: from then on nothing new is made of it, but by who had looked before
 *   2 the raw log's ends are noted: what was decided with an old look lies below
 *   3 everything below is waited for: decided, sent, loaded
 *   4 rows are recorded and erased (erase-rows.ts), then rows of persons, overrides and groups
 *   5 asked once more; then the plan lets go what it kept until now, and the order is done
 *
 * What must hold: cut off at any point, the same order goes on. Rows are recorded before they go, and go as recorded, so the
 * audit is exact at each point.
 */
import { guardState, type Transaction, transaction, withRowsLock } from '../catalog/index.ts'
import { failpoint } from '../platform/index.ts'
import {
  nothingMissing,
  rawEnds,
  type SettleDeps,
  until,
  untilIngested,
  untilLoaded,
} from '../repair/index.ts'
import { forgetSnapshot } from '../squash/index.ts'
import { changeRows, syncReplicas, untilNothingIsCopied, type Warehouse } from '../warehouse/index.ts'
import { ROW_TABLES, STATE_TABLES } from './conditions.ts'
import { countRows, endBegunPiece, eraseRows, type RowsWhere } from './erase-rows.ts'
import { deletionError } from './errors.ts'
import { type Deletion, endOrder, notePositions, type Order, openOrder, readOrder } from './orders.ts'

export type DeletionDeps = SettleDeps & {
  warehouse: Warehouse
  /** Tests only: how long a project may be known as it was. Default: PROJECTS_STALE_MS. */
  projectsStaleMs?: number
}
/** `resumed`: it was ordered before and past `asked`, so that what came since then is not in it. */
export type CarriedOut = Deletion & { resumed: boolean }
/** `hold` throws once somebody else may change rows. */
export type WorkDeps = DeletionDeps & { hold: () => Promise<void> }

/** What a deletion is about, in ClickHouse. */
export type Target = {
  /** Rows that the ledger counts: a statement for each of so many chunks. */
  chunks: number
  rows: RowsWhere
  /** Rows that it does not. */
  state: readonly { table: string; where: string }[]
}

/** What is another thing for a person than for a project. */
export type Plan = {
  /** From `asked` to `taken`. */
  takeOut(deps: DeletionDeps, deletion: Deletion, waitMs: number): Promise<void>
  /** Returns when who had looked before reads nothing but what is in the raw log now. */
  seen(deps: DeletionDeps, deletion: Deletion, waitMs: number): Promise<void>
  /** How many state rows ingest has still to send. */
  unsent(deps: DeletionDeps, deletion: Deletion): Promise<number>
  target(deps: DeletionDeps, deletion: Deletion): Promise<Target>
  /** ClickHouse has nothing any more: takes what is left elsewhere, in steps. */
  letGo(deps: WorkDeps, deletion: Deletion): Promise<void>
  /** The last of it, in the transaction that ends the order. */
  end(tx: Transaction, deletion: Deletion): Promise<void>
}

/** Rows that a mutation left, or that were put back by hand, are taken in another round. */
const ROUNDS_MAX = 3

/**
 * Carries the order out, or goes on with it. Throws HR_REPAIR_WAITS (after `waitMs` at a step), HR_DELETION_BUSY, and
 * retriable errors of the servers: the same order goes on then.
 */
export async function carryOut(
  deps: DeletionDeps,
  order: Order,
  plan: Plan,
  waitMs: number,
): Promise<CarriedOut> {
  const { sql } = deps
  const busy = () =>
    deletionError(
      'HR_DELETION_BUSY',
      'another deletion, a squash or a repair of rows is at work; wait for its end',
    )
  return withRowsLock(sql, busy, async (hold) => {
    await untilNothingIsCopied(deps.warehouse, hold)
    let deletion = await openOrder(sql, order)
    const { id } = deletion
    const resumed = deletion.state !== 'asked'
    failpoint('deletion_asked')
    if (deletion.state === 'asked') {
      await plan.takeOut(deps, deletion, waitMs)
      failpoint('deletion_taken')
      deletion = await readOrder(sql, id)
    }
    if (deletion.state === 'taken') {
      await plan.seen(deps, deletion, waitMs)
      await noteEnds(deps, deletion)
      failpoint('deletion_noted')
      deletion = await readOrder(sql, id)
    }
    await settle(deps, deletion, plan, waitMs)
    await erase({ ...deps, hold }, deletion, await plan.target(deps, deletion))
    failpoint('deletion_erased')
    await plan.letGo({ ...deps, hold }, deletion)
    await guardState('end a deletion', () =>
      transaction(sql, async (tx) => {
        await plan.end(tx, deletion)
        await endOrder(tx, id)
      }),
    )
    return { ...(await readOrder(sql, id)), resumed }
  })
}

async function noteEnds(deps: DeletionDeps, { id, positions }: Deletion): Promise<void> {
  const known = new Map(positions.map((position) => [`${position.logId}/${position.partition}`, position]))
  for (const { end, ...lane } of await rawEnds(deps)) {
    const key = `${lane.logId}/${lane.partition}`
    const position = known.get(key) ?? { ...lane, decided: 0, end: 0 }
    known.set(key, { ...position, end: Math.max(position.decided, end) })
  }
  await notePositions(deps.sql, id, [...known.values()])
}

async function settle(deps: DeletionDeps, deletion: Deletion, plan: Plan, waitMs: number): Promise<void> {
  const deadlineMs = performance.now() + waitMs
  await untilIngested(deps, deletion.positions, deadlineMs)
  await until(deadlineMs, deps.says, async () => {
    const unsent = await plan.unsent(deps, deletion)
    return unsent === 0 ? undefined : `ingest has ${unsent} state rows of the deletion to send`
  })
  await untilLoaded(deps, deadlineMs)
}

async function erase(deps: WorkDeps, deletion: Deletion, { chunks, rows, state }: Target): Promise<void> {
  // A squash that was cut off keeps distinct ids; without them it begins anew, with what is there then.
  await deps.hold()
  await forgetSnapshot(deps.warehouse)
  await syncAll(deps.warehouse)
  // Before the question what is missing: of a piece that stands still for a day the audit misses rows.
  await endBegunPiece(deps, deletion, rows)
  await nothingMissing(deps, deletion.positions)
  for (let round = 1; ; round++) {
    if (round > 1) await syncAll(deps.warehouse)
    await eraseRows(deps, deletion.id, chunks, rows)
    for (const { table, where } of state) {
      await deps.hold()
      await changeRows(deps.warehouse, { table, what: 'DELETE', where }, deps.says)
    }
    const counts = await countRows(deps.warehouse, chunks, rows)
    const left = Object.entries(counts).filter(([, n]) => n > 0)
    if (left.length === 0) return
    if (round === ROUNDS_MAX)
      throw deletionError(
        'HR_DELETION_CHANGED',
        `rows are there again after they were erased: ${left.map(([table, n]) => `${n} of ${table}`).join(', ')}`,
      )
  }
}

/** A replica that lags would not show rows that others have: they would go without being on record. */
async function syncAll(warehouse: Warehouse): Promise<void> {
  for (const name of [...ROW_TABLES, ...STATE_TABLES]) await syncReplicas(warehouse, { name })
}
