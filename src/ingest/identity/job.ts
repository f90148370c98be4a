/** One batch on its way into Postgres, and what the ways of committing it share: the fold, and the write after it. */
import type { Sql, Transaction } from '../../catalog/index.ts'
import type { VisitorWrite } from '../cookieless/index.ts'
import { applyBatch } from './apply.ts'
import type { Contended } from './contended.ts'
import { fold } from './fold.ts'
import type { OptionsOf } from './options.ts'
import type { Snapshot } from './snapshot.ts'
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
  /** Called before every try: for counters. */
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
  /** What the last try has read: each person as of its version. */
  seen: Snapshot | undefined
}

/** What one try knows of its events and their visitors. */
export type Known = { events: readonly IdentityEvent[]; writes: readonly VisitorWrite[] }

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
