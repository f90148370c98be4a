/**
 * Brings the rows of one held intent into ClickHouse, each once. In: the intent, locked, and its rows. Out: what
 * became of them, already written to Postgres in the locking transaction.
 *
 * ```
 *            ┌─ world at fault: wait, ask, send again; for ever ─┐
 * ask ──▶ send ◀──────────────────────────────────────────────────┘
 *  │       ├─ taken ─▶ (ask) ─▶ done
 *  │       ├─ no memory for it, at its owner's every try, and none of it there ─▶ split into small child intents
 *  │       └─ a row refused ─▶ split into two, or, when it is alone, to the dead letters: done
 *  └─ all there: done · part of it there and the token too old to trust: repair
 * ```
 * The first owner's first try needs no question. Every later one asks which sources are there, since the token is
 * remembered only for a number of inserts; for the other tables, whose rows replace themselves, it just sends.
 */
import { HeadraceError, isRejected, TABLE_OF_TOPIC, type Table, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { backoffMs, type LoadFailpoint, pause } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { isWarehouseDown } from './ask.ts'
import { type Batch, halveBatch, intentOf, piecesOf } from './batch.ts'
import { askPresence, type Presence } from './check-sources.ts'
import { buryRow } from './dead-letter.ts'
import type { Hold } from './hold-intent.ts'
import { markDone, markRefused, markRepair, replaceByChildren } from './intent.ts'
import { untilMerged } from './merges.ts'
import { loadMetrics } from './metrics.ts'
import type { Pace } from './pace.ts'
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

/** After `split` there are children to settle; after `verdict` the same intent, whose row is known to be bad. */
export type Delivery = 'done' | 'split' | 'verdict' | 'buried' | 'repair'

/**
 * Past this age the token of a batch that is there in part is no longer trusted: at one insert per second and table,
 * a quarter of the 10,000 tokens that ClickHouse remembers is never reached within it by a few loaders.
 */
export const INTENT_AGE_MS_MAX = 600_000

/** So often ClickHouse must refuse a row that is alone in its insert. */
const REFUSALS_MAX = 3
/** So often in a row ClickHouse must have no memory for an insert before it is cut up: it may be others that use it. */
const NO_MEMORY_MAX = 3
/**
 * Who locks its own intent within this time of writing it is the first to send it: nobody inherits a partition sooner,
 * since the owner before has a time-out to be told apart, or is waited for.
 */
const ALONE_MS_MAX = 3_000
/** Small enough at once, since pieces are an heir's to send, who may not cut them again. */
const PIECE_BYTES_MAX = 2 ** 20

const TABLES = new Map<string, Table>(Object.values(TABLE_OF_TOPIC).map((table) => [table.name, table]))

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
  const verdict = hold.intent.refused
  const startedMs = deps.clock()
  // An heir had it meanwhile, if the lock came late: what that one sent may be on its way still.
  const alone = role === 'owner' && hold.intent.ageMs < ALONE_MS_MAX
  let noMemory = 0
  let crowded = false
  for (let attempt = 0; ; attempt++) {
    stop.throwIfAborted()
    try {
      const doubtful = (!alone || attempt > 0) && batch.table === TOPICS.events
      const ageMs = hold.intent.ageMs + deps.clock() - startedMs
      // Pieces have other tokens. So nothing of the whole may be on its way: each try must have ended with this answer.
      const tooLarge = alone && noMemory >= NO_MEMORY_MAX && noMemory === attempt
      return verdict === undefined
        ? await attemptOnce(deps, hold, batch, { doubtful, ageMs, tooLarge })
        : await bury(deps, hold, batch, verdict)
    } catch (error) {
      if (!isWarehouseDown(error) && !isHeldElsewhere(error)) throw error
      const { code } = error as HeadraceError
      loadMetrics.retries.inc({ table: batch.table, code })
      deps.blocked(whyOf(error as HeadraceError))
      noMemory = code === 'HR_WAREHOUSE_OUT_OF_MEMORY' ? noMemory + 1 : 0
      if (noMemory > 0) deps.pace.tooLarge()
      await pause(backoffMs(attempt + 1, BACKOFF), stop)
      if (code === 'HR_WAREHOUSE_TOO_MANY_PARTS') {
        // Once for each insert, however often this one is refused.
        if (!crowded) deps.pace.crowded()
        crowded = true
        await untilMerged(deps.warehouse, batch.table, stop)
      }
    }
  }
}

/** `doubtful`: it may have been sent before. `tooLarge`: it never fit into the memory of ClickHouse. */
type Attempt = { doubtful: boolean; ageMs: number; tooLarge: boolean }

async function attemptOnce(
  deps: DeliverDeps,
  hold: Hold,
  batch: Batch,
  { doubtful, ageMs, tooLarge }: Attempt,
): Promise<Delivery> {
  const { id } = hold.intent
  const before = doubtful ? await askPresence(deps.warehouse, batch.rows) : 'none'
  if (before === 'all') return done(deps, hold)
  if (before === 'some' && ageMs > INTENT_AGE_MS_MAX)
    return repair(deps, hold, batch, 'part of its rows are there, and its token may be forgotten')
  if (tooLarge && before === 'none' && batch.bytes > PIECE_BYTES_MAX && batch.rows.length > 1)
    return split(deps, hold, batch, piecesOf(batch, PIECE_BYTES_MAX), {
      docs: 'docs/runbooks/load.md#no-memory',
      why: `ClickHouse has no memory for ${batch.rows.length} rows at once; they are sent in pieces`,
    })
  const sentMs = deps.clock()
  await deps.reached('insert_sent')
  try {
    await deps.warehouse.insertRows({
      table: TABLES.get(batch.table)!,
      rows: batch.rows.map(({ row }) => row),
      token: id,
    })
  } catch (error) {
    if (isRejected(error)) return refused(deps, hold, batch, error as HeadraceError)
    throw error
  }
  await deps.reached('inserted')
  if (doubtful) {
    const presence = await askPresence(deps.warehouse, batch.rows)
    if (presence !== 'all') return repair(deps, hold, batch, afterwards(presence))
  }
  countInsert(deps, batch, sentMs)
  return done(deps, hold)
}

function afterwards(presence: Presence): string {
  return `ClickHouse took them, but afterwards ${presence === 'none' ? 'none' : 'not each exactly once'} of its rows is there`
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

/** A whole insert is refused: nothing of it may be there before it is cut otherwise, since children have other tokens. */
async function refused(deps: DeliverDeps, hold: Hold, batch: Batch, error: HeadraceError): Promise<Delivery> {
  const { id } = hold.intent
  if (batch.table === TOPICS.events && (await askPresence(deps.warehouse, batch.rows)) !== 'none') {
    return repair(
      deps,
      hold,
      batch,
      `ClickHouse refuses a row, but part of the rows are there: ${error.message}`,
    )
  }
  if (batch.rows.length === 1) {
    // A body that was cut on its way is refused, too: a single row gets another chance.
    for (let attempt = 2; attempt <= REFUSALS_MAX; attempt++) {
      if (await takesRow(deps, batch, id)) return done(deps, hold)
    }
    return bury(deps, hold, batch, error.message)
  }
  return split(deps, hold, batch, halveBatch(batch), {
    docs: 'docs/runbooks/load.md#refused-rows',
    why: `ClickHouse refuses an insert of ${batch.rows.length} rows; it is halved to find the row: ${error.message}`,
  })
}

/** Of at least two rows, none of which is there. */
async function split(
  deps: DeliverDeps,
  hold: Hold,
  batch: Batch,
  parts: readonly Batch[],
  { why, docs }: { why: string; docs: string },
): Promise<Delivery> {
  const { id } = hold.intent
  deps.logger.warn({ table: batch.table, intent: id, rows: batch.rows.length, docs }, why)
  const children = parts.map((part) => intentOf(part, Bun.randomUUIDv7(), id))
  await hold.write((tx) => replaceByChildren(tx, id, children))
  await deps.reached('split')
  return 'split'
}

async function takesRow(deps: DeliverDeps, batch: Batch, id: string): Promise<boolean> {
  try {
    await deps.warehouse.insertRows({
      table: TABLES.get(batch.table)!,
      rows: batch.rows.map(({ row }) => row),
      token: id,
    })
    return true
  } catch (error) {
    if (isRejected(error)) return false
    throw error
  }
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

function countInsert(deps: DeliverDeps, batch: Batch, sentMs: number): void {
  const nowMs = deps.clock()
  const label = { table: batch.table }
  loadMetrics.rows.inc(label, batch.rows.length)
  loadMetrics.bytes.inc(label, batch.bytes)
  loadMetrics.inserts.inc(label)
  loadMetrics.insertSeconds.observe(label, (nowMs - sentMs) / 1000)
  deps.pace.taken(nowMs, nowMs - sentMs, batch.bytes)
  if (batch.table !== TOPICS.events) return
  let oldestMs = nowMs
  for (const { appendedMs } of batch.rows) if (appendedMs < oldestMs) oldestMs = appendedMs
  loadMetrics.freshness.observe((nowMs - oldestMs) / 1000)
}

/** The loader that had this partition before may only be slow to let go of where its dead letters go. */
function isHeldElsewhere(error: unknown): boolean {
  return error instanceof HeadraceError && error.code === 'HR_LOG_NOT_WRITER'
}
