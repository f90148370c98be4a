/**
 * What the identity step is given and what it answers. In: the events of one batch that survived the steps before,
 * in offset order. Out: per event the person and groups it is stamped with, and one write set in which no row
 * stands twice.
 */
import type { PersonMode, PersonProcessing, ReceiptCount, Warning } from '../../event/index.ts'
import type { NotedIds, VisitorStates, VisitorWrite, WantedVisitors } from '../cookieless/index.ts'
import type { Json, JsonObject } from '../json.ts'
import type { Marks } from '../output-marks.ts'
import type { OptionsOf } from './options.ts'

export type { Json, JsonObject } from '../json.ts'
export type { IdentityOptions } from './options.ts'

/** A request of the event to join two ids (ingestion spec §9.1). */
export type MergeRequest = { kind: 'identify' | 'alias' | 'dangerous'; otherId: Json }

export type IdentityEvent = {
  teamId: number
  distinctId: string
  name: string
  uuid: string
  timestampMs: number
  /** When capture received it: the clock of versions, so that a replay gives the same. */
  nowMs: number
  personProcessing: PersonProcessing
  set: JsonObject | undefined
  setOnce: JsonObject | undefined
  unset: string[] | undefined
  merge: MergeRequest | undefined
  /** `$groups`: type → key, keys already strings. */
  groups: Record<string, string> | undefined
  groupIdentify: { type: string; key: string; set: JsonObject } | undefined
}

export type GroupStamp = { index: number; key: string; propertiesJson: string; createdAtMs: number }

/** What an event carries of its person and groups, as they were when it took effect. */
export type Stamp = {
  personUuid: string
  personCreatedAtMs: number
  personPropertiesJson: string
  mode: PersonMode
  groups: GroupStamp[]
  warnings: Warning[]
}

/** Which state rows must reach the log: kept in the receipt until they have. */
export type Outbox = {
  /** [team_id, uuid] */
  persons: [number, string][]
  /** [team_id, distinct_id] */
  mappings: [number, string][]
  /** [team_id, type_index, group_key] */
  groups: [number, number, string][]
  /** By offset; absent when there are none. */
  warnings?: [number, Warning][]
  /** The ids of its stored cookieless events, which a replay cannot find again; absent when there are none. */
  cookieless?: NotedIds[]
  /** See output-marks.ts. */
  marks?: Marks
  /** See batch-counts.ts: the receipt keeps them when the outbox goes. */
  counts?: ReceiptCount[]
}

/** The rows for the log, in RowBinary, by topic. */
export type StateRows = { persons: Buffer[]; personDistinctIds: Buffer[]; groups: Buffer[] }

/** The fence advance and the receipt of the batch: written in the same statement as its effects. */
export type BatchPosition = {
  logId: string
  partition: number
  /** The token of `takeOver`; absent where nobody took the fence over. */
  owner?: string
  topic: string
  fromOffset: number
  /** Exclusive. */
  toOffset: number
  /** Known produced when this batch is applied: the fence's produced_through becomes this. */
  producedThrough: number
}

export type BatchReceipt = {
  /** Below 2^53. */
  checksum: number
  outcomes: Buffer
  stored: number
  duplicate: number
  dropped: number
  deadLettered: number
  storedRows: number
  /** Sum of sourceHash of the stored rows; below 2^53. */
  hashSum: number
  prev: { offset: number; sub: number } | undefined
  last: { offset: number; sub: number } | undefined
  configVersion: number
  /** By offset, what the identity step warned of: kept with the outbox, because a replay cannot find it out again. */
  warnings: [number, Warning][]
  /** Kept with the outbox, too. */
  cookieless?: NotedIds[]
  /** See output-marks.ts. */
  marks?: Marks
  /** See batch-counts.ts. */
  counts?: ReceiptCount[]
}

/**
 * The cookieless visitors of a batch: read, locked and written with its persons. Which ids some of its events have is
 * known only when what is stored of them was read.
 */
export type BatchVisitors = {
  wanted: WantedVisitors
  /** The events of the batch, and what is to be stored of its visitors; called again after a conflict. */
  resolve(states: VisitorStates): { events: IdentityEvent[]; writes: VisitorWrite[] }
}

/** The answer of the identity step: stamps parallel to the events, and the state rows that the batch changed. */
export type CommittedBatch = { stamps: Stamp[]; stateRows: StateRows }

/** What else is to be known of a batch. */
export type BatchContext = {
  /** One answer per team for the whole batch; the usual options where it is absent. */
  optionsOf?: OptionsOf
  /** With these, `events` are what the batch comes to while nothing is known of them. */
  visitors?: BatchVisitors | undefined
}

export interface Identity {
  /**
   * Applies `events` and `position` in one transaction. `receipt` is called with the stamps, again whenever a
   * conflict made the fold run again; what it returned last is what was stored. Throws HR_INGEST_FENCE (fatal for
   * this partition: another owner advanced it) when the fence is not at `fromOffset`; retriable state errors when
   * Postgres is away; HR_STATE_REFUSED when Postgres refuses a value (the caller bisects).
   */
  commit(
    events: IdentityEvent[],
    position: BatchPosition,
    receipt: (stamps: Stamp[]) => BatchReceipt,
    context?: BatchContext,
  ): Promise<CommittedBatch>
  /** Stamps for a replay: state as it is now, no effect. */
  restamp(events: IdentityEvent[], optionsOf?: OptionsOf): Promise<Stamp[]>
  /** The state rows of an outbox that may not have reached the log, as they are now. */
  stateRows(outbox: Outbox): Promise<StateRows>
}
