/** Rows of events for tests: everything filled in, the source and whatever matters given. */
import { plainEventRow } from '../../test/support/event-row.ts'
import { EVENTS, type EventRow } from '../event/index.ts'

export const TEST_LOG_ID = '01890000-0000-7000-8000-00000000000a'
const START_MS = Date.UTC(2026, 10, 1)

export function eventRow(offset: number, changes: Partial<EventRow> = {}): EventRow {
  return plainEventRow({
    uuid: `01890000-0000-7000-8000-${offset.toString(16).padStart(12, '0')}`,
    event: 'page seen',
    timestamp: START_MS + offset,
    distinct_id: `user-${offset % 7}`,
    created_at: START_MS + offset,
    person_id: TEST_LOG_ID,
    _log_id: TEST_LOG_ID,
    _offset: offset,
    ...changes,
  })
}

/** `count` encoded rows with offsets from `from` on. */
export function eventRows(from: number, count: number, changes: Partial<EventRow> = {}): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => EVENTS.encode(eventRow(from + i, changes)))
}
