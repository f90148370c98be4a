/** Rows of events for tests: everything filled in, the source and whatever matters given. */
import { EVENTS, type EventRow } from '../event/index.ts'

export const TEST_LOG_ID = '01890000-0000-7000-8000-00000000000a'
const START_MS = Date.UTC(2026, 10, 1)

export function eventRow(offset: number, changes: Partial<EventRow> = {}): EventRow {
  return {
    uuid: `01890000-0000-7000-8000-${offset.toString(16).padStart(12, '0')}`,
    event: 'page seen',
    properties: '{}',
    timestamp: START_MS + offset,
    team_id: 1,
    distinct_id: `user-${offset % 7}`,
    elements_chain: '',
    created_at: START_MS + offset,
    person_id: TEST_LOG_ID,
    person_created_at: START_MS,
    person_properties: '{}',
    group0_properties: '',
    group1_properties: '',
    group2_properties: '',
    group3_properties: '',
    group4_properties: '',
    group0_created_at: 0,
    group1_created_at: 0,
    group2_created_at: 0,
    group3_created_at: 0,
    group4_created_at: 0,
    person_mode: 'full',
    historical_migration: false,
    _log_id: TEST_LOG_ID,
    _partition: 0,
    _offset: offset,
    _sub: 0,
    _config_version: 1,
    _restamped: false,
    ...changes,
  }
}

/** `count` encoded rows with offsets from `from` on. */
export function eventRows(from: number, count: number, changes: Partial<EventRow> = {}): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => EVENTS.encode(eventRow(from + i, changes)))
}
