/**
 * Commits a batch. First the optimistic way, two round trips: read without locks, fold, apply; the apply rolls back
 * when a version has moved in between. Then, and only then, the locked way, in one transaction with short time-outs:
 *
 *   lock the fence · read the ids · lock their persons in the order of their ids · read again, in a new statement,
 *   because a person seen before its lock may have been merged away · the same fold · the same apply
 *
 * With its persons locked nothing that the batch read can change, but for ids that have no person yet: there is
 * nothing to lock. Their insert may still meet another's, which is found by the same checks and tried again; each
 * such try finds at least one id more that now exists, so the tries end. Locks are taken in the order that
 * 0007_identity_options.sql states, those of cookieless visitors behind all others; but the locked way takes visitors
 * right behind its persons, since only they say which events it has, and so in front of groups and of all that is new.
 * There it can wait in a circle with an optimistic batch that has the same visitors and the same groups: Postgres ends
 * one of the two, which is a conflict as any other and is tried again.
 *
 * A batch with cookieless visitors reads what is stored of them beside its persons, and only then knows its events. Its
 * optimistic read asks for persons by the ids that the visitors have if nothing is stored of them, and by those that
 * Postgres says they have. An id that comes up within the batch itself cannot have a person yet: whoever gives it one
 * changes the visitor as well, and so is found out.
 */
import { guardState, type Sql, stateError, type Transaction, transaction } from '../../catalog/index.ts'
import { HeadraceError } from '../../event/index.ts'
import { failpoint } from '../../platform/index.ts'
import {
  currentIds,
  lockVisitors,
  readVisitors,
  type VisitorStates,
  type VisitorWrite,
} from '../cookieless/index.ts'
import { ApplyConflict, applyBatch } from './apply.ts'
import { fold } from './fold.ts'
import { defaultOptions, type OptionsOf } from './options.ts'
import { readSnapshot } from './read.ts'
import { readNamesakes } from './read-persons.ts'
import { idKey, type Snapshot } from './snapshot.ts'
import { stateRowsOf } from './state-rows.ts'
import type {
  BatchContext,
  BatchPosition,
  BatchReceipt,
  BatchVisitors,
  CommittedBatch,
  IdentityEvent,
  Stamp,
} from './types.ts'
import { idsOnly, type Wanted, wantedBy } from './wanted.ts'

/** One optimistic try, then locked ones. */
const ATTEMPTS_MAX = 8
const BACKOFF_MS_BASE = 5
const BACKOFF_MS_MAX = 250
/** Another batch holds its locks for milliseconds; one that does not move is dead or paused. */
const LOCK_TIMEOUT_MS = 5_000
const STATEMENT_TIMEOUT_MS = 15_000
/** A process that is paused inside its transaction must not hold up the others. */
const IDLE_TIMEOUT_MS = 5_000

export type CommitHooks = {
  /** Called before every try: for counters. */
  attempt?: (attempt: number, path: 'optimistic' | 'locked') => void
}

type Job = {
  events: readonly IdentityEvent[]
  wanted: Wanted
  position: BatchPosition
  receipt: (stamps: Stamp[]) => BatchReceipt
  optionsOf: OptionsOf
  visitors: BatchVisitors | undefined
}

/** What one try knows of its events and their visitors. */
type Known = { events: readonly IdentityEvent[]; writes: readonly VisitorWrite[] }

/** See Identity.commit. */
export async function commitBatch(
  sql: Sql,
  events: readonly IdentityEvent[],
  position: BatchPosition,
  receipt: (stamps: Stamp[]) => BatchReceipt,
  hooks: CommitHooks = {},
  context: BatchContext = {},
): Promise<CommittedBatch> {
  checkPosition(position)
  const { optionsOf = defaultOptions, visitors } = context
  const job: Job = {
    events,
    wanted: wantedBy(events, visitors?.wanted),
    position,
    receipt,
    optionsOf,
    visitors,
  }
  const what = `batch ${position.topic}/${position.partition} from ${position.fromOffset}`
  for (let attempt = 1; ; attempt++) {
    try {
      hooks.attempt?.(attempt, attempt === 1 ? 'optimistic' : 'locked')
      return await guardState(what, () => (attempt === 1 ? optimistic(sql, job) : locked(sql, job)))
    } catch (error) {
      if (!isConflict(error)) throw error
      if (attempt >= ATTEMPTS_MAX) {
        throw stateError(
          'HR_STATE_CONFLICT',
          `${what}: others changed its persons ${ATTEMPTS_MAX} times`,
          error,
        )
      }
      // The first conflict needs no pause: the locks make it wait.
      if (attempt > 1) await Bun.sleep(backoffMs(attempt))
    }
  }
}

async function optimistic(sql: Sql, job: Job): Promise<CommittedBatch> {
  const { visitors } = job
  if (!visitors)
    return foldAndApply(sql, job, { events: job.events, writes: [] }, await readSnapshot(sql, job.wanted))
  const [snapshot, states] = await Promise.all([
    readSnapshot(sql, job.wanted),
    readVisitors(sql, visitors.wanted),
  ])
  checkAgreement(visitors, states, snapshot)
  return foldAndApply(sql, job, visitors.resolve(states), snapshot)
}

/** Two statements may see two states; a visitor whose person was not looked up must not seem to have none. */
function checkAgreement({ wanted }: BatchVisitors, states: VisitorStates, { visitorIds }: Snapshot): void {
  if (!visitorIds) return
  const ids = currentIds(wanted, states)
  if (ids.length === visitorIds.size && ids.every(([team, id]) => visitorIds.has(idKey(team, id)))) return
  throw new ApplyConflict('cookieless visitors changed while their batch was read')
}

async function locked(sql: Sql, job: Job): Promise<CommittedBatch> {
  const work = async (tx: Transaction) => {
    await tx`
      SELECT set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true),
        set_config('statement_timeout', ${String(STATEMENT_TIMEOUT_MS)}, true),
        set_config('idle_in_transaction_session_timeout', ${String(IDLE_TIMEOUT_MS)}, true)`
    await tx`
      SELECT FROM ingest_fence WHERE log_id = ${job.position.logId} AND partition = ${job.position.partition}
      FOR UPDATE`
    await lockPersons(tx, job.wanted)
    const known = await lockedVisitors(tx, job)
    const wanted = job.visitors ? wantedBy(known.events) : job.wanted
    const snapshot = await readSnapshot(tx, wanted)
    await readNamesakes(tx, wanted, snapshot)
    failpoint('apply_begun')
    const applied = await foldAndApply(tx, job, known, snapshot)
    failpoint('apply_before_commit')
    return applied
  }
  return transaction(sql, work, 'isolation level read committed')
}

async function lockPersons(tx: Transaction, wanted: Wanted): Promise<void> {
  const { mappings } = await readSnapshot(tx, idsOnly(wanted))
  const ids = [...new Set([...mappings.values()].map(({ person }) => person.id))]
  if (ids.length === 0) return
  await tx`SELECT FROM person WHERE id = ANY (${`{${ids.join()}}`}::text::bigint[]) ORDER BY id FOR NO KEY UPDATE`
}

/** With its visitors locked the batch knows its events, and reads persons by exactly their ids. */
async function lockedVisitors(tx: Transaction, { events, visitors }: Job): Promise<Known> {
  if (!visitors) return { events, writes: [] }
  await lockVisitors(tx, visitors.wanted)
  return visitors.resolve(await readVisitors(tx, visitors.wanted))
}

async function foldAndApply(
  sql: Sql | Transaction,
  job: Job,
  { events, writes }: Known,
  snapshot: Snapshot,
): Promise<CommittedBatch> {
  const { stamps, writeSet } = fold(events, snapshot, job.optionsOf)
  const moved = await applyBatch(sql, job.position, job.receipt(stamps), writeSet, writes)
  return { stamps, stateRows: stateRowsOf(writeSet, moved) }
}

function isConflict(error: unknown): boolean {
  return (
    error instanceof ApplyConflict || (error instanceof HeadraceError && error.code === 'HR_STATE_CONFLICT')
  )
}

function backoffMs(attempt: number): number {
  return Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS_BASE * 2 ** attempt)
}

/** A position that cannot be is our fault, and must not look like a value that Postgres refuses. */
function checkPosition({ fromOffset, toOffset, producedThrough }: BatchPosition): void {
  if (fromOffset >= 0 && toOffset > fromOffset && producedThrough <= fromOffset) return
  throw new TypeError(`a batch cannot go from ${fromOffset} to ${toOffset} with ${producedThrough} produced`)
}
