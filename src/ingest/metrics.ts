/** What ingest counts, per batch. */
import { counter, gauge, histogram } from '../observe/index.ts'
import type { Slot } from './batch.ts'
import type { IndexSize } from './dedup/claims.ts'
import type { CommitHooks } from './identity/index.ts'

export const ingestMetrics = {
  events: counter('headrace_ingest_events_total', 'Raw events by end state and reason.', ['state', 'reason']),
  warnings: counter('headrace_ingest_warnings_total', 'Warnings by type.', ['type']),
  retries: counter(
    'headrace_ingest_retries_total',
    'Times that a partition waited and tried again, by error code.',
    ['code'],
  ),
  replayed: counter('headrace_ingest_replayed_offsets_total', 'Raw offsets produced again after a crash.'),
  tries: counter(
    'headrace_ingest_tries_total',
    'Tries to commit a batch: optimistic, and locked after a conflict or where persons are contended.',
    ['path'],
  ),
  conflicts: counter(
    'headrace_ingest_conflicts_total',
    'Tries that were refused because others had changed the same persons.',
  ),
  waitSeconds: counter(
    'headrace_ingest_wait_seconds_total',
    'Seconds that batches waited: for the gate (batches at once), for a turn (others with the same persons), for the log.',
    ['what'],
  ),
  halted: gauge('headrace_ingest_halted', '1 for a partition that cannot go on without a human.', [
    'partition',
  ]),
  optionsUnread: counter(
    'headrace_ingest_options_unread_total',
    'Options of projects that this version cannot read: they count as absent.',
  ),
  stateRowsEmptied: counter(
    'headrace_ingest_state_rows_emptied_total',
    'Persons and groups whose properties no record of the log can hold; sent without them.',
  ),
  dedupBytes: gauge('headrace_dedup_bytes', 'Bytes on disk of the dedup index of a partition.', [
    'partition',
  ]),
  transformed: counter(
    'headrace_transform_events_total',
    'Events on which a step of a transformation set had an effect: changed, dropped, quarantined, or failed and gone on.',
    ['team', 'step', 'outcome'],
  ),
  transformationsUnread: counter(
    'headrace_transform_refresh_failures_total',
    'Failed attempts to ask for newer transformations; those that are known go on.',
  ),
  dedupClaims: gauge(
    'headrace_dedup_claims',
    'Claims in the dedup index of a partition, with those that expired and have not gone yet.',
    ['partition'],
  ),
  dedupMemory: gauge(
    'headrace_dedup_memory_bytes',
    'Memory of the newest claims and the filters of a partition; HEADRACE_DEDUP_MEMORY_MB bounds their sum.',
    ['partition'],
  ),
  batchSeconds: histogram(
    'headrace_ingest_batch_seconds',
    'From the records of a batch to the acknowledgement of its rows.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  ),
  delaySeconds: histogram(
    'headrace_ingest_delay_seconds',
    'From capture to the acknowledgement of the rows, oldest event of each batch.',
    [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600],
  ),
}

export const identityHooks: CommitHooks = {
  attempt: (_, path) => ingestMetrics.tries.inc({ path }),
  conflict: () => ingestMetrics.conflicts.inc(),
  waited: (ms) => countWait('turn', ms),
}

export function countWait(what: 'gate' | 'turn' | 'log', ms: number): void {
  ingestMetrics.waitSeconds.inc({ what }, ms / 1000)
}

export function countBatch(slots: readonly Slot[], seconds: number): void {
  const totals = new Map<string, number>()
  for (const slot of slots) {
    const { warnings } = slot
    // An event is stored while one of its rows is, as its receipt says.
    const decision = slot.more.some((row) => !row.decision) ? undefined : slot.decision
    const key = decision
      ? `${decision.kind}\u0000${decision.kind === 'duplicate' ? '' : decision.reason}`
      : 'stored\u0000'
    totals.set(key, (totals.get(key) ?? 0) + 1)
    for (const { type } of warnings) ingestMetrics.warnings.inc({ type })
    for (const row of slot.more) for (const { type } of row.warnings) ingestMetrics.warnings.inc({ type })
  }
  for (const [key, count] of totals) {
    const [kind, reason] = key.split('\u0000') as [string, string]
    ingestMetrics.events.inc({ state: STATE_OF[kind]!, reason }, count)
  }
  ingestMetrics.batchSeconds.observe(seconds)
  ingestMetrics.delaySeconds.observe(Math.max(0, (Date.now() - slots[0]!.record.appendedMs) / 1000))
}

/** The size of a partition's dedup index; undefined when this process has none. */
export function showDedup(partition: number, size: IndexSize | undefined): void {
  const labels = { partition: String(partition) }
  if (size) {
    ingestMetrics.dedupBytes.set(labels, size.bytes)
    ingestMetrics.dedupClaims.set(labels, size.claims)
    ingestMetrics.dedupMemory.set(labels, size.memoryBytes)
  } else {
    ingestMetrics.dedupBytes.remove(labels)
    ingestMetrics.dedupClaims.remove(labels)
    ingestMetrics.dedupMemory.remove(labels)
  }
}

const STATE_OF: Record<string, string> = {
  stored: 'stored',
  drop: 'dropped',
  deadLetter: 'dead_lettered',
  duplicate: 'duplicate',
}
