/**
 * The locked ways of committing a batch, each in one transaction with short time-outs, in which the fold has what it
 * reads under lock:
 *
 *   relocked   lock the fence and, in the order of their ids, the persons that an earlier read has found · read again the
 *              ids of those that have changed since, after a conflict also the ids that had no person; give up when that
 *              finds a person who would be locked out of order · the same fold · the same apply
 *   locked     lock the fence · read the ids · lock their persons in the order of their ids · read all again, in a new
 *              statement, because a person seen before its lock may have been merged away · the same fold · the same apply
 *
 * A person whose version is as read needs no second read: every batch that writes it, or gives it an id or takes one away,
 * raises that. What raises the version of an id alone (move-mappings.ts, republish.ts) leaves it leading to the same person,
 * and where a batch then writes that id, the apply compares its version.
 * Costs of `relocked` are a lock per person and what has changed; of `locked` all look-ups twice.
 */
import { type Transaction, transaction } from '../../catalog/index.ts'
import { failpoint } from '../../platform/index.ts'
import { lockVisitors, readVisitors } from '../cookieless/index.ts'
import { ApplyConflict } from './apply.ts'
import { applyFolded, foldJob, type Job, type Known, type Shared } from './job.ts'
import { readSnapshot } from './read.ts'
import { readNamesakes } from './read-persons.ts'
import { adopt, fullIds, isFull, type PersonRow, type Snapshot } from './snapshot.ts'
import type { Write } from './turns.ts'
import type { CommittedBatch } from './types.ts'
import { idsOnly, onlyIds, type Wanted, wantedBy } from './wanted.ts'

/** Another batch holds its locks for milliseconds; one that does not move is dead or paused. */
const LOCK_TIMEOUT_MS = 5_000
const STATEMENT_TIMEOUT_MS = 15_000
/** A process that is paused inside its transaction must not hold up the others. */
const IDLE_TIMEOUT_MS = 5_000

const READ_COMMITTED = 'isolation level read committed'

/**
 * `expected`: the persons of `snapshot` for which this is the first try; undefined after a conflict, when ids without a
 * person may have one by now. `snapshot` is changed, and of no use when this fails. The batch must have no visitors.
 */
export function relocked(
  { sql, contended }: Shared,
  job: Job,
  snapshot: Snapshot,
  write: Write,
  expected: ReadonlySet<number> | undefined,
): Promise<CommittedBatch> {
  const work = async (tx: Transaction) => {
    // One round trip: none needs the answer of another.
    const [, , moved] = await Promise.all([setTimeouts(tx), lockFence(tx, job), lockKnown(tx, snapshot)])
    contended.learn(expected ?? [], moved)
    await readMoved(tx, job.wanted, snapshot, moved, job.toLock, !expected)
    return foldLocked(tx, job, { events: job.events, writes: [] }, snapshot, write)
  }
  return transaction(sql, work, READ_COMMITTED)
}

export function locked({ sql }: Shared, job: Job, write: Write): Promise<CommittedBatch> {
  const work = async (tx: Transaction) => {
    await Promise.all([setTimeouts(tx), lockFence(tx, job)])
    await lockPersons(tx, job.wanted)
    const known = await lockedVisitors(tx, job)
    const wanted = job.visitors ? wantedBy(known.events) : job.wanted
    const snapshot = await readSnapshot(tx, wanted)
    await readNamesakes(tx, wanted, snapshot)
    return foldLocked(tx, job, known, snapshot, write)
  }
  return transaction(sql, work, READ_COMMITTED)
}

async function foldLocked(tx: Transaction, job: Job, known: Known, snapshot: Snapshot, write: Write) {
  failpoint('apply_begun')
  const folded = foldJob(job, known, snapshot)
  write.holds(folded.writeSet)
  const applied = await applyFolded(tx, job, folded)
  failpoint('apply_before_commit')
  return applied
}

async function setTimeouts(tx: Transaction): Promise<void> {
  await tx`
    SELECT set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true),
      set_config('statement_timeout', ${String(STATEMENT_TIMEOUT_MS)}, true),
      set_config('idle_in_transaction_session_timeout', ${String(IDLE_TIMEOUT_MS)}, true)`
}

async function lockFence(tx: Transaction, { position }: Job): Promise<void> {
  await tx`
    SELECT FROM ingest_fence WHERE log_id = ${position.logId} AND partition = ${position.partition} FOR UPDATE`
}

async function lockPersons(tx: Transaction, wanted: Wanted): Promise<void> {
  const { persons } = await readSnapshot(tx, idsOnly(wanted))
  const ids = [...persons.keys()]
  if (ids.length === 0) return
  await tx`SELECT FROM person WHERE id = ANY (${`{${ids.join()}}`}::text::bigint[]) ORDER BY id FOR NO KEY UPDATE`
}

/** Locks the persons whose properties `snapshot` holds; the ids of those that are not as it has them. */
async function lockKnown(tx: Transaction, { persons }: Snapshot): Promise<Set<number>> {
  const known: PersonRow[] = []
  for (const person of persons.values()) if (isFull(person)) known.push(person)
  if (known.length === 0) return new Set()
  const moved = await tx<{ id: number }[]>`
    WITH known AS (
      SELECT * FROM unnest(
        ${`{${known.map((person) => person.id).join()}}`}::text::bigint[],
        ${`{${known.map((person) => person.version).join()}}`}::text::bigint[]
      ) AS k(id, version)
    ), locked AS MATERIALIZED (
      SELECT p.id, p.version FROM person p WHERE p.id = ANY (ARRAY(SELECT k.id FROM known k))
      ORDER BY p.id FOR NO KEY UPDATE
    )
    SELECT k.id FROM known k LEFT JOIN locked l ON l.id = k.id WHERE l.version IS DISTINCT FROM k.version`
  return new Set(moved.map(({ id }) => id))
}

/** Brings `snapshot` up to date: ids of `moved`, and after a conflict those that lead to nobody, and all groups. */
async function readMoved(
  tx: Transaction,
  wanted: Wanted,
  snapshot: Snapshot,
  moved: ReadonlySet<number>,
  locked: ReadonlySet<number>,
  refused: boolean,
): Promise<void> {
  const { mappings, persons } = snapshot
  const stale: number[] = []
  for (const [key, place] of wanted.ids.places) {
    const person = mappings.get(key)?.person
    // Also those that only personless events name, else one person would be there twice, as it was and as it is.
    const leadsToNobody = refused && wanted.ids.full[place] && (!person || person.dead)
    if (!leadsToNobody && !(person && moved.has(person.id))) continue
    stale.push(place)
    mappings.delete(key)
  }
  for (const id of moved) persons.delete(id)
  const again = onlyIds(wanted, stale, refused ? wanted.groups : undefined)
  const read = await readSnapshot(tx, again)
  if (!adopt(snapshot, read))
    throw new ApplyConflict('persons that are not locked changed while others were read again')
  if (outOfOrder(read, locked))
    throw new ApplyConflict('persons came to light in front of others that are locked')
  if (!refused) return
  snapshot.groups = read.groups
  snapshot.groupTypes = read.groupTypes
  await readNamesakes(tx, again, snapshot)
}

/** Two batches that lock the same persons, each in another order, wait for each other. */
function outOfOrder(read: Snapshot, locked: ReadonlySet<number>): boolean {
  let last = 0
  for (const id of locked) last = Math.max(last, id)
  for (const id of fullIds(read)) if (id < last && !locked.has(id)) return true
  return false
}

/** With its visitors locked the batch knows its events, and reads persons by exactly their ids. */
async function lockedVisitors(tx: Transaction, { events, visitors }: Job): Promise<Known> {
  if (!visitors) return { events, writes: [] }
  await lockVisitors(tx, visitors.wanted)
  return visitors.resolve(await readVisitors(tx, visitors.wanted))
}
