/** What the embedded log counts; bumped per commit, never per record. */
import { counter, gauge, histogram } from '../../observe/index.ts'

export const appendedRecords = counter('headrace_log_appended_records_total', 'Records made durable', [
  'topic',
] as const)
export const appendedBytes = counter(
  'headrace_log_appended_bytes_total',
  'Bytes made durable, framing included',
  ['topic'] as const,
)
export const commitSeconds = histogram(
  'headrace_log_commit_seconds',
  'One group commit of the embedded log: write, fdatasync, publish',
  [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
)
export const queuedBytes = gauge('headrace_log_queued_bytes', 'Bytes of records that wait for their commit')
export const diskUsedRatio = gauge('headrace_log_disk_used_ratio', 'Used part of the disk that holds the log')
export const tornBytes = counter(
  'headrace_log_torn_bytes_total',
  'Bytes of unfinished commits that were cut when a partition was opened',
)
export const damagedRecords = counter(
  'headrace_log_damage_total',
  'Times that damage was met: a record that fails its checksum, a hole, a missing file',
  ['topic'] as const,
)
export const syncFailures = counter('headrace_log_sync_failures_total', 'fdatasync calls that failed (fatal)')
export const journalEntries = counter(
  'headrace_log_journal_entries_total',
  'Commits over several partitions that one write to the commit journal made durable',
)
export const journalBytes = counter('headrace_log_journal_bytes_total', 'Bytes written to the commit journal')
export const journalWaits = counter(
  'headrace_log_journal_waits_total',
  'Commits that waited for a half of the journal whose records were not yet durable in their segments',
)
export const journalFailures = counter(
  'headrace_log_journal_failures_total',
  'Times that the commit journal could not be made or written; commits are then synced file by file',
)
export const settledJournals = counter(
  'headrace_log_settled_journals_total',
  'Journals of dead processes whose commits were written into the segments',
)
export const journalDamage = counter(
  'headrace_log_journal_damage_total',
  'Journals of dead processes in which damage was found',
)
export const deletedSegments = counter(
  'headrace_log_deleted_segments_total',
  'Segments removed by retention',
  ['topic'] as const,
)
export const watchFailures = counter(
  'headrace_log_watch_failures_total',
  'Times that the watch which wakes readers failed; they are then woken by the slow poll',
)
export const retentionFailures = counter(
  'headrace_log_retention_failures_total',
  'Runs of retention over a partition that the disk or damage stopped',
)
