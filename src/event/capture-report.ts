/**
 * What capture has to tell a project's owner about events that are not in the log, or not as they were sent. It goes to
 * the raw log as a record of its own (disposition `report`, this as JSON in the value), so that it is as durable and as
 * ordered as events are; ingest makes a row of `ingestion_warnings` of it.
 */
import type { WarningType } from './reasons.ts'

/** The warning types that a report may become. */
export const REPORT_TYPES = [
  'events_rejected',
  'events_changed',
  'requests_refused',
] as const satisfies readonly WarningType[]
export type ReportType = (typeof REPORT_TYPES)[number]

/** One event or request out of those that a report counts: the first one. */
export type ReportSample = {
  message: string
  path: string
  requestId: string
  /** `name/version`, or empty. */
  sdk: string
  /** Of an event: its place in the request, the field at fault, and what is known of it. */
  index?: number
  field?: string
  uuid?: string
  distinctId?: string
  event?: string
}

export type CaptureReport = {
  type: ReportType
  /** From the closed list of its type: a reject reason, a note reason, an error code. */
  reason: string
  /** Events or requests since the last report of this type and reason by this capture process. */
  count: number
  /** When the first and the last of them came, epoch ms. */
  fromMs: number
  toMs: number
  sample: ReportSample
}

/** The event name in the header of a report. */
export const REPORT_EVENT = '$$capture_report'

/** Reads a report. Throws an Error that says what is wrong when it is none. */
export function parseReport(json: string): CaptureReport {
  const report = JSON.parse(json) as CaptureReport | null
  if (typeof report !== 'object' || report === null) throw new Error('the report is not an object')
  if (!REPORT_TYPES.includes(report.type)) throw new Error('the report has a type that is not known')
  return report
}
