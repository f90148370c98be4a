/** One batch on its way into Postgres, and what the ways of committing it share: the fold, and the write after it. */
import type { Sql, Transaction } from '../../catalog/index.ts'
import type { VisitorWrite } from '../cookieless/index.ts'
import { applyBatch } from './apply.ts'
import type { Contended } from './contended.ts'
import { fold } from './fold.ts'
import type { OptionsOf } from './options.ts'
import { fullIds, type Snapshot } from './snapshot.ts'
import { stateRowsOf } from './state-rows.ts'
import type { Turns } from './turns.ts'
import type {
  BatchPosition,
  BatchReceipt,
  BatchVisitors,
  CommittedBatch,
  IdentityEvent,
  Stamp,
} from './types.ts'
import type { Wanted } from './wanted.ts'
import type { WriteSet } from './write-set.ts'

export type CommitHooks = {
  /** Called once for every try, as soon as its way is known: for counters. */
  attempt?: (attempt: number, path: 'optimistic' | 'locked') => void
  /** Called when a try was refused because of others. */
  conflict?: () => void
  /** ms that a batch has waited for others of this process. */
  waited?: (ms: number) => void
}

/** What the batches of one process share. */
export type Shared = { sql: Sql; hooks: CommitHooks; turns: Turns; contended: Contended }

export type Job = {
  events: readonly IdentityEvent[]
  wanted: Wanted
  position: BatchPosition
  receipt: (stamps: Stamp[]) => BatchReceipt
  optionsOf: OptionsOf
  visitors: BatchVisitors | undefined
  /** What the first try has read, each person as of its version, until a try has taken it to work on. */
  seen: Snapshot | undefined
  /** Persons that `seen` held in full when it was taken: these and more are locked from then on. */
  toLock: ReadonlySet<number>
}

/** What one try knows of its events and their visitors. */
export type Known = { events: readonly IdentityEvent[]; writes: readonly VisitorWrite[] }

/**
 * `seen`, for one try: a locked one changes it in place, and may end halfway, with ids that were taken out and not read
 * again. The next would take those for ids that have nobody.
 */
export function takeSeen(job: Job): Snapshot | undefined {
  const { seen } = job
  if (seen) job.toLock = fullIds(seen)
  job.seen = undefined
  return seen
}

export type Folded = {
  stamps: Stamp[]
  writeSet: WriteSet
  receipt: BatchReceipt
  visitorWrites: readonly VisitorWrite[]
}

export function foldJob(job: Job, { events, writes }: Known, snapshot: Snapshot): Folded {
  const { stamps, writeSet } = fold(events, snapshot, job.optionsOf)
  return { stamps, writeSet, receipt: job.receipt(stamps), visitorWrites: writes }
}

export async function applyFolded(
  sql: Sql | Transaction,
  { position }: Job,
  { stamps, writeSet, receipt, visitorWrites }: Folded,
): Promise<CommittedBatch> {
  const moved = await applyBatch(sql, position, receipt, writeSet, visitorWrites)
  return { stamps, stateRows: stateRowsOf(writeSet, moved) }
}
