/** What the spool counts; counters per batch, gauges by the reporter once a second at most. */
import { counter, gauge } from '../../observe/index.ts'

export const stateGauge = gauge(
  'headrace_capture_spool_state',
  'Where events go: 0 to the log, 1 to the spool because the log is out of reach, 2 to the spool while it drains.',
)
export const recordsGauge = gauge(
  'headrace_capture_spool_records',
  'Events in the spools that this process holds: acknowledged, and not in the log yet.',
)
export const bytesGauge = gauge(
  'headrace_capture_spool_bytes',
  'Bytes on disk of the spools that hold events.',
)
export const bytesMaxGauge = gauge(
  'headrace_capture_spool_bytes_max',
  'Limit of headrace_capture_spool_bytes.',
)
export const oldestGauge = gauge(
  'headrace_capture_spool_oldest_seconds',
  'Age of the oldest event in a spool.',
)
export const damagedGauge = gauge(
  'headrace_capture_spool_damaged',
  'Spools with records that cannot be read; they wait for a human.',
)
export const tooLargeGauge = gauge(
  'headrace_capture_spool_too_large',
  'Spools that hold one event that is larger than the log takes; they wait for a human.',
)
export const tooLargeTotal = counter(
  'headrace_capture_spool_too_large_total',
  'Events of a spool that were set aside because they are larger than the log takes.',
)
export const spooledTotal = counter('headrace_capture_spooled_total', 'Events made durable in the spool.')
export const drainedTotal = counter(
  'headrace_capture_drained_total',
  'Events of a spool that are in the log now.',
)
export const drainFailures = counter(
  'headrace_capture_drain_failures_total',
  'Sends of the drainer that failed; they are made again.',
)
export const reportFailures = counter(
  'headrace_capture_spool_report_failures_total',
  'Attempts to tell Postgres of the spools that failed; they are made again.',
)
