/** A row of `events` with every column filled in; whoever builds one names what matters. */
import type { EventRow } from '../../src/event/index.ts'

const NOBODY = '01890000-0000-7000-8000-00000000000a'
const TIME_MS = Date.UTC(2026, 10, 1)

export function plainEventRow(changes: Partial<EventRow>): EventRow {
  return {
    uuid: NOBODY,
    event: '$pageview',
    properties: '{}',
    timestamp: TIME_MS,
    team_id: 1,
    distinct_id: 'someone',
    elements_chain: '',
    created_at: TIME_MS,
    person_id: NOBODY,
    person_created_at: TIME_MS,
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
    _log_id: NOBODY,
    _partition: 0,
    _offset: 0,
    _sub: 0,
    _config_version: 1,
    _restamped: false,
    ...changes,
  }
}
