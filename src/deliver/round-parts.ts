/** What a round and the followers of its detached destinations have in common. */
import type { Sql } from '../catalog/index.ts'
import type { Log, Producer } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import type { DeliverFailpoint, Signal } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Batch } from './batch.ts'
import type { Parked, PartitionKey, StoredCursor } from './cursors.ts'
import type { Directory } from './directory.ts'
import type { JobResult } from './job.ts'
import type { Runtime } from './runtime.ts'
import type { DestinationStore } from './store.ts'
import type { Places } from './turns.ts'

export type RoundDeps = {
  log: Log
  sql: Sql
  warehouse: Warehouse
  producer: Producer
  store: DestinationStore
  directory: Directory
  logger: Logger
  clock: () => number
  /** 0 to 1, for jitter. */
  random: () => number
  /** Nobody waits longer than this for a slow one. */
  sharedWaitMs: number
  /** How many detached destinations are brought on at once, in this process. */
  catchUps: Places
  /** Events of one destination and partition that may wait to be tried again. */
  retriesMax: number
  reached: (step: DeliverFailpoint) => void
}

/** A destination in this partition, as Postgres has it. */
export type Cursor = StoredCursor & {
  /** How many of its events wait to be tried again, and by which keys. */
  waiting: number
  keys: Map<string, number>
}

/** Work on a batch that goes on after the batch was committed for the others. */
export type Job = { runtime: Runtime; batch: Batch; result: Promise<JobResult> }

export const READ_RECORDS_MAX = 2_000
export const READ_BYTES_MAX = 4 * 1024 * 1024

/** A round as its followers see it. */
export type Followed = {
  readonly deps: RoundDeps
  readonly key: PartitionKey
  readonly cursors: ReadonlyMap<string, Cursor>
  /** Destinations that stand still in front of a gap. */
  readonly halted: Set<string>
  readonly epoch: number
  /** Followers go no further. */
  readonly horizon: number
  /** Something moved: the fence, a cursor, or a destination. */
  readonly moved: Signal
  /** Aborts when the round is over. */
  readonly over: AbortSignal
  /** Ends the round: what it knows is not so any more, or nothing can be known. */
  fail(error: unknown): void
  /** Tries again in place what stores answers that there are. */
  stored<T>(work: () => Promise<T>): Promise<T>
  tryJoin(cursor: Cursor): Promise<boolean>
  startJob(runtime: Runtime, cursor: Cursor, batch: Batch, wanted: readonly number[], stop: AbortSignal): Job
  announce(results: readonly { runtime: Runtime; result: JobResult }[]): Promise<void>
  parked(cursor: Cursor, parked: readonly Parked[]): void
  tell(runtime: Runtime, result: JobResult): void
}
