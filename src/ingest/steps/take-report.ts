/** A report of capture becomes a row of `ingestion_warnings`, with what capture said as it said it. */
import { deadLetter, drop, type Outcome, parseReport } from '../../event/index.ts'

export function takeReport(value: Uint8Array): Outcome<never> {
  try {
    const json = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8')
    const { type, ...details } = parseReport(json)
    return drop('capture_report', [{ type, details }])
  } catch (error) {
    return deadLetter('unreadable_event', `not a report: ${(error as Error).message}`)
  }
}
