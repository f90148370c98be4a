/**
 * Brings the rows of one held intent into ClickHouse, each once. In: the intent, locked, and its rows. Out: what
 * became of them, already written to Postgres in the locking transaction.
 *
 * ```
 *            ┌─ world at fault: wait, ask, send again; for ever ─┐
 * ask ──▶ send ◀──────────────────────────────────────────────────┘
 *  │       ├─ taken ─▶ (ask) ─▶ done
 *  │       ├─ no memory for it ─▶ send each month alone; or split: it keeps the first row of each month, child
 *  │       │                      intents get the others
 *  │       └─ a row refused ─▶ its months are split into two, or, when it is alone, to the dead letters: done
 *  └─ all there: done · of some months all, of the others none: these are sent · anything else: repair
 * ```
 * The first owner's first try needs no question. Every later one asks which sources are there, since the token is
 * remembered only for a number of inserts; for the other tables, whose rows replace themselves, it just sends. So a row that
 * is there is never sent again, and the token must keep out one thing only: a try that is on its way still. It does so for
 * minutes (`pace.ts`), and nobody begins a try late: the lock is confirmed right before.
 *
 * Children have other tokens, so none may be sent while a try of their rows under this one can land. What is refused never
 * will (`send.ts`). What was too large might, when there is memory again: that is what the rows are for that the intent
 * keeps. Once they are in, its token is used up in each of its months, and nothing else can land under it; the children wait
 * for that. Only `events` is asked for and sent by months: copies in other tables replace each other.
 */
import { HeadraceError, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { backoffMs, type LoadFailpoint, pause } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { catchUp, isWarehouseDown } from './ask.ts'
import type { Batch } from './batch.ts'
import { absentRows } from './check-sources.ts'
import { buryRow } from './dead-letter.ts'
import type { Hold } from './hold-intent.ts'
import { markDone, markRefused, markRepair } from './intent.ts'
import { untilMerged } from './merges.ts'
import { loadMetrics } from './metrics.ts'
import type { Pace } from './pace.ts'
import type { BufferedRow } from './partition-input.ts'
import { type Refusal, sendRows, TABLES } from './send.ts'
import { cutUp, halve } from './split.ts'
import { BACKOFF } from './wait.ts'
import { type Why, whyOf } from './why.ts'

/** Called when a step is reached: the failpoints, unless a test wants another end there. */
export type StepHook = (step: LoadFailpoint) => Promise<void> | void

export type DeliverDeps = {
  log: Log
  warehouse: Warehouse
  logger: Logger
  partitions: number
  clock: () => number
  /** Told why while rows wait (ClickHouse does not take them, the log does not take a refused one), else undefined. */
  blocked: (why: Why | undefined) => void
  /** Of the table; learns what ClickHouse bears. */
  pace: Pace
  reached: StepHook
}

/** After `split` there are children to settle, perhaps with it; after `verdict` the same intent, whose row is known to be bad. */
export type Delivery = 'done' | 'split' | 'verdict' | 'buried' | 'repair'

/** So often in a row ClickHouse must have no memory for an insert before it is cut up: it may be others that use it. */
const NO_MEMORY_MAX = 3
/** While it is nobody's turn. */
const TURN_LOOK_MS = 1_000
/**
 * Who locks its own intent within this time of writing it is the first to send it: nobody inherits a partition sooner,
 * since the owner before has a time-out to be told apart, or is waited for.
 */
export const ALONE_MS_MAX = 3_000

/** Throws HR_LOAD_LOCK_LOST, an abort of `signal`, HR_STATE_*, HR_LOG_*, or what ClickHouse says that nobody expects. */
export async function deliver(
  deps: DeliverDeps,
  hold: Hold,
  batch: Batch,
  role: 'owner' | 'heir',
  signal: AbortSignal,
): Promise<Delivery> {
  try {
    return await untilTaken(deps, hold, batch, role, AbortSignal.any([hold.signal, signal]))
  } finally {
    // Given up, it waits for nothing: whoever settles it says so anew.
    deps.blocked(undefined)
  }
}

async function untilTaken(
  deps: DeliverDeps,
  hold: Hold,
  batch: Batch,
  role: 'owner' | 'heir',
  stop: AbortSignal,
): Promise<Delivery> {
  const { refused: verdict, ageMs } = hold.intent
  // An heir had it meanwhile, if the lock came late: what that one sent may be on its way still. And of a clock that was
  // set back nothing is known.
  const alone = role === 'owner' && ageMs >= 0 && ageMs < ALONE_MS_MAX
  let noMemory = 0
  let crowded = false
  for (let attempt = 0; ; attempt++) {
    stop.throwIfAborted()
    try {
      if (verdict !== undefined) return await bury(deps, hold, batch, verdict)
      const monthsApart = noMemory >= NO_MEMORY_MAX
      if (noMemory >= (isOneMonth(batch) ? 1 : 2) * NO_MEMORY_MAX && (await cutUp(deps, hold, batch)))
        return 'split'
      if (role === 'heir' && attempt === 0) await takeTurn(deps, stop)
      const doubtful = (!alone || attempt > 0) && batch.table === TOPICS.events
      return await attemptOnce(deps, hold, batch, { role, doubtful, monthsApart })
    } catch (error) {
      if (!isWarehouseDown(error) && !isHeldElsewhere(error)) throw error
      const { code } = error as HeadraceError
      loadMetrics.retries.inc({ table: batch.table, code })
      deps.blocked(whyOf(error as HeadraceError))
      noMemory = code === 'HR_WAREHOUSE_OUT_OF_MEMORY' ? noMemory + 1 : 0
      if (noMemory > 0) deps.pace.tooLarge(batch.bytes)
      await pause(backoffMs(attempt + 1, BACKOFF), stop)
      if (code === 'HR_WAREHOUSE_TOO_MANY_PARTS') {
        // Once for each insert, however often this one is refused.
        if (!crowded) deps.pace.crowded()
        crowded = true
        await untilMerged(deps, batch.table, stop)
      }
    }
  }
}

/** As a cut does before it is made. It may come sooner than it seems: partitions may come, and with them a larger share. */
async function takeTurn({ pace, clock }: DeliverDeps, stop: AbortSignal): Promise<void> {
  for (let ms = pace.dueInMs(clock()); ms > 0; ms = pace.dueInMs(clock())) {
    await pause(Math.min(ms, TURN_LOOK_MS), stop)
    stop.throwIfAborted()
  }
}

function isOneMonth({ rows }: Batch): boolean {
  return rows.every(({ month }) => month === rows[0]!.month)
}

async function attemptOnce(
  deps: DeliverDeps,
  hold: Hold,
  batch: Batch,
  { role, doubtful, monthsApart }: { role: 'owner' | 'heir'; doubtful: boolean; monthsApart: boolean },
): Promise<Delivery> {
  const { table } = batch
  // Rows of a child may be there under another token than its own, which then would not keep a second copy out: a replica
  // that lags must not be believed.
  if (doubtful && hold.intent.parent !== undefined) await catchUp(deps.warehouse, TABLES.get(table)!)
  const rows = doubtful ? await absentRows(deps.warehouse, batch.rows) : batch.rows
  if (!rows)
    return repair(deps, hold, batch, 'a part of its rows of one month is there, or one of them twice')
  if (rows.length === 0) return done(deps, hold)
  // Of a cut that is known already.
  if (role === 'heir') deps.pace.cut(deps.clock())
  const refusal = await sendRows(deps, hold, rows, { table, doubtful, monthsApart })
  if (refusal) return refused(deps, hold, batch, refusal)
  await deps.reached('inserted')
  if (doubtful && !(await isAllThere(deps, table, batch.rows)))
    return repair(
      deps,
      hold,
      batch,
      'ClickHouse took them, but afterwards not each of its rows is there exactly once',
    )
  return done(deps, hold)
}

async function isAllThere(deps: DeliverDeps, table: string, rows: readonly BufferedRow[]): Promise<boolean> {
  if (rows.length === 0) return true
  const isThere = async () => (await absentRows(deps.warehouse, rows))?.length === 0
  if (await isThere()) return true
  await catchUp(deps.warehouse, TABLES.get(table)!)
  return isThere()
}

async function done(deps: DeliverDeps, hold: Hold): Promise<Delivery> {
  await hold.write((tx) => markDone(tx, hold.intent.id))
  await deps.reached('done')
  return 'done'
}

async function repair(deps: DeliverDeps, hold: Hold, batch: Batch, why: string): Promise<Delivery> {
  const { id } = hold.intent
  await hold.write((tx) => markRepair(tx, id, why))
  deps.logger.error(
    { table: batch.table, intent: id, rows: batch.rows.length, docs: 'docs/runbooks/load.md#repair' },
    `load intent ${id} goes to repair: ${why}`,
  )
  return 'repair'
}

/** Of the refused rows nothing may be there, since they go on under other tokens; all others of the batch must be. */
async function refused(deps: DeliverDeps, hold: Hold, batch: Batch, refusal: Refusal): Promise<Delivery> {
  const { rows, error } = refusal
  const { table, rows: all } = batch
  if (table === TOPICS.events) {
    const gone = new Set(rows)
    const others = all.filter((row) => !gone.has(row))
    const absent = await absentRows(deps.warehouse, rows)
    if (absent?.length !== rows.length || !(await isAllThere(deps, table, others)))
      return repair(
        deps,
        hold,
        batch,
        `ClickHouse refuses a row, and what is there of the others is not what was sent: ${error.message}`,
      )
  }
  if (all.length === 1) return bury(deps, hold, batch, error.message)
  await halve(deps, hold, batch, error.message)
  return 'split'
}

/** The one row of the batch goes to the dead letters; the verdict is remembered first. */
async function bury(deps: DeliverDeps, hold: Hold, batch: Batch, why: string): Promise<Delivery> {
  const row = batch.rows[0]!
  const { id, refused } = hold.intent
  if (batch.table === TOPICS.deadLetters || batch.table === TOPICS.outcomes) {
    return repair(deps, hold, batch, `ClickHouse refuses a row of ${batch.table}: ${why}`)
  }
  if (refused === undefined) {
    // Committed before the row is produced elsewhere: an heir must not offer it again and have it in both places.
    await hold.write((tx) => markRefused(tx, id, why))
    return 'verdict'
  }
  const amend = await buryRow(deps, batch.table, row, why)
  await deps.reached('buried')
  await hold.write(async (tx) => {
    await amend(tx)
    await markDone(tx, id)
  })
  loadMetrics.refusedRows.inc({ table: batch.table })
  return 'buried'
}

/** The loader that had this partition before may only be slow to let go of where its dead letters go. */
function isHeldElsewhere(error: unknown): boolean {
  return error instanceof HeadraceError && error.code === 'HR_LOG_NOT_WRITER'
}
