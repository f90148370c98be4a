/**
 * Commits a batch. First the optimistic way, two round trips: read without locks, fold, apply; the apply rolls back
 * when a version has moved in between. Batches of this process that have persons in common take turns between read and
 * fold (turns.ts), so what moves then are persons that another process changes too; of those that have done so lately
 * (contended.ts) the locks are taken before the fold. After a conflict, and only then, the locked ways (locked.ts): once
 * with what the first try has read, of which only what has changed is read again, and from then on with everything anew.
 *
 * With its persons locked nothing that the batch read can change, but for ids that have no person yet: there is
 * nothing to lock. Their insert may still meet another's, which is found by the same checks and tried again; each
 * such try finds at least one id more that now exists, so the tries end. Locks are taken in the order that
 * 0007_identity_options.sql states, those of cookieless visitors behind all others, with two exceptions. The locked way
 * takes visitors right behind its persons, since only they say which events it has, and so in front of groups and of all
 * that is new. And who comes to light behind the locks of the persons, a deleted person that comes back or, in the last
 * locked way, the survivor of a merge that came between, is locked by the apply, whatever its id. There a batch can wait
 * in a circle with another: Postgres ends one of the two, which is a conflict as any other and is tried again.
 *
 * A batch with cookieless visitors reads what is stored of them beside its persons, and only then knows its events. Its
 * optimistic read asks for persons by the ids that the visitors have if nothing is stored of them, and by those that
 * Postgres says they have. An id that comes up within the batch itself cannot have a person yet: whoever gives it one
 * changes the visitor as well, and so is found out. After a conflict it goes the locked way with everything anew.
 */
import { guardState, type Sql, stateError } from '../../catalog/index.ts'
import { HeadraceError } from '../../event/index.ts'
import { currentIds, readVisitors, type VisitorStates } from '../cookieless/index.ts'
import { ApplyConflict } from './apply.ts'
import { applyFolded, foldJob, type Job, type Known, type Shared, takeSeen } from './job.ts'
import { locked, relocked } from './locked.ts'
import { defaultOptions } from './options.ts'
import { readSnapshot } from './read.ts'
import { idKey, type Snapshot } from './snapshot.ts'
import type {
  BatchContext,
  BatchPosition,
  BatchReceipt,
  BatchVisitors,
  CommittedBatch,
  IdentityEvent,
  Stamp,
} from './types.ts'
import { wantedBy } from './wanted.ts'

/** One optimistic try, then locked ones. */
const ATTEMPTS_MAX = 8
const BACKOFF_MS_BASE = 5
const BACKOFF_MS_MAX = 250
const NOBODY: ReadonlySet<number> = new Set()

/** See Identity.commit. */
export async function commitBatch(
  shared: Shared,
  events: readonly IdentityEvent[],
  position: BatchPosition,
  receipt: (stamps: Stamp[]) => BatchReceipt,
  context: BatchContext = {},
): Promise<CommittedBatch> {
  checkPosition(position)
  const { hooks } = shared
  const { optionsOf = defaultOptions, visitors } = context
  const wanted = wantedBy(events, visitors?.wanted)
  const job: Job = { events, wanted, position, receipt, optionsOf, visitors, seen: undefined, toLock: NOBODY }
  const what = `batch ${position.topic}/${position.partition} from ${position.fromOffset}`
  for (let attempt = 1; ; attempt++) {
    try {
      return await guardState(what, () => tryOnce(shared, job, attempt))
    } catch (error) {
      if (!isConflict(error)) throw error
      hooks.conflict?.()
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

function tryOnce(shared: Shared, job: Job, attempt: number): Promise<CommittedBatch> {
  const { hooks, turns } = shared
  if (attempt === 1) return firstTry(shared, job)
  hooks.attempt?.(attempt, 'locked')
  const seen = takeSeen(job)
  const write = turns.begin(job.toLock)
  if (!seen || job.visitors) return write.during(locked(shared, job, write))
  return write.during(relocked(shared, job, seen, write, undefined))
}

async function firstTry(shared: Shared, job: Job): Promise<CommittedBatch> {
  const { sql, hooks, turns } = shared
  const turn = turns.ask(job.wanted)
  let begun = false
  try {
    const { known, snapshot } = await read(sql, job)
    job.seen = snapshot
    return await turn.take(
      snapshot,
      (wanted) => readSnapshot(sql, wanted),
      () => {
        begun = true
        return begin(shared, job, known, snapshot)
      },
      (ms) => hooks.waited?.(ms),
    )
  } finally {
    if (!begun) hooks.attempt?.(1, 'optimistic')
    turn.leave()
  }
}

/** Without an await before the write is told to the others. */
function begin(shared: Shared, job: Job, known: Known, snapshot: Snapshot): Promise<CommittedBatch> {
  const { sql, hooks, turns, contended } = shared
  const expected = job.visitors ? undefined : contended.among(snapshot.persons)
  if (expected && expected.size > 0) {
    hooks.attempt?.(1, 'locked')
    takeSeen(job)
    const write = turns.begin(job.toLock)
    return write.during(relocked(shared, job, snapshot, write, expected))
  }
  hooks.attempt?.(1, 'optimistic')
  const folded = foldJob(job, known, snapshot)
  const write = turns.begin(NOBODY)
  write.holds(folded.writeSet)
  return write.during(applyFolded(sql, job, folded))
}

async function read(
  sql: Sql,
  { events, wanted, visitors }: Job,
): Promise<{ known: Known; snapshot: Snapshot }> {
  if (!visitors) return { known: { events, writes: [] }, snapshot: await readSnapshot(sql, wanted) }
  const [snapshot, states] = await Promise.all([
    readSnapshot(sql, wanted),
    readVisitors(sql, visitors.wanted),
  ])
  checkAgreement(visitors, states, snapshot)
  return { known: visitors.resolve(states), snapshot }
}

/** Two statements may see two states; a visitor whose person was not looked up must not seem to have none. */
function checkAgreement({ wanted }: BatchVisitors, states: VisitorStates, { visitorIds }: Snapshot): void {
  if (!visitorIds) return
  const ids = currentIds(wanted, states)
  if (ids.length === visitorIds.size && ids.every(([team, id]) => visitorIds.has(idKey(team, id)))) return
  throw new ApplyConflict('cookieless visitors changed while their batch was read')
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
