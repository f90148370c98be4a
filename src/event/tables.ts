/**
 * The rows that we write to ClickHouse. Names are upstream's (ingestion spec §16, §17), so that queries and
 * dashboards written for PostHog's schema run here; our own columns begin with `_`. The DDL may have further
 * columns (materialised, defaulted); these are the ones that we send, in this order.
 */
import { type Column, defineTable, type RowOf } from './row-codec.ts'
import { TOPICS } from './topics.ts'

const SOURCE_COLUMNS = [
  { name: '_log_id', type: 'uuid', doc: 'Id of the raw topic that the event came from.' },
  { name: '_partition', type: 'u16', doc: 'Raw partition.' },
  { name: '_offset', type: 'u64', doc: 'Raw offset.' },
  { name: '_sub', type: 'u16', doc: 'Number of the row when one event became several.' },
] as const satisfies readonly Column[]

export const EVENTS = defineTable('events', [
  { name: 'uuid', type: 'uuid', doc: 'The id of the event, as sent or given by capture.' },
  { name: 'event', type: 'string', doc: 'Event name, at most 200 UTF-16 units.' },
  { name: 'properties', type: 'string', doc: 'The properties, as JSON.' },
  { name: 'timestamp', type: 'dateTimeUs', doc: 'When it happened, corrected for the clock of the client.' },
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  { name: 'distinct_id', type: 'string', doc: 'Who did it, as the client said.' },
  { name: 'elements_chain', type: 'string', doc: 'The clicked element and its parents.' },
  { name: 'created_at', type: 'dateTimeUs', doc: 'When capture received it.' },
  { name: 'person_id', type: 'uuid', doc: 'The person at the time the event took effect.' },
  { name: 'person_created_at', type: 'dateTimeMs', doc: 'When that person was first seen.' },
  { name: 'person_properties', type: 'string', doc: 'Its properties at that time, as JSON.' },
  {
    name: 'group0_properties',
    type: 'string',
    doc: 'Properties of the group of type 0 at that time, as JSON.',
  },
  { name: 'group1_properties', type: 'string', doc: 'As above, type 1.' },
  { name: 'group2_properties', type: 'string', doc: 'As above, type 2.' },
  { name: 'group3_properties', type: 'string', doc: 'As above, type 3.' },
  { name: 'group4_properties', type: 'string', doc: 'As above, type 4.' },
  { name: 'group0_created_at', type: 'dateTimeMs', doc: 'When the group of type 0 was first seen.' },
  { name: 'group1_created_at', type: 'dateTimeMs', doc: 'As above, type 1.' },
  { name: 'group2_created_at', type: 'dateTimeMs', doc: 'As above, type 2.' },
  { name: 'group3_created_at', type: 'dateTimeMs', doc: 'As above, type 3.' },
  { name: 'group4_created_at', type: 'dateTimeMs', doc: 'As above, type 4.' },
  { name: 'person_mode', type: 'personMode', doc: 'Whether person processing was on.' },
  { name: 'historical_migration', type: 'bool', doc: 'Came through the lane for imports.' },
  ...SOURCE_COLUMNS,
  { name: '_config_version', type: 'u32', doc: 'Version of the configuration that processed it.' },
  { name: '_restamped', type: 'bool', doc: 'The person was read anew on a replay after a crash.' },
])
export type EventRow = RowOf<typeof EVENTS.columns>

export const PERSON = defineTable('person', [
  { name: 'id', type: 'uuid', doc: 'The person.' },
  { name: 'created_at', type: 'dateTimeMs', doc: 'When first seen.' },
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  { name: 'properties', type: 'string', doc: 'Properties, as JSON.' },
  { name: 'is_identified', type: 'i8', doc: '1 once an identify or alias joined it.' },
  { name: 'is_deleted', type: 'i8', doc: '1 when merged into another person or deleted.' },
  { name: 'version', type: 'u64', doc: 'Rises with every change; the highest wins.' },
])
export type PersonRow = RowOf<typeof PERSON.columns>

export const PERSON_DISTINCT_ID_OVERRIDES = defineTable('person_distinct_id_overrides', [
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  {
    name: 'distinct_id',
    type: 'string',
    doc: 'The id whose events belong to another person than they carry.',
  },
  { name: 'person_id', type: 'uuid', doc: 'The person that they belong to.' },
  { name: 'is_deleted', type: 'i8', doc: '1 when the override no longer holds.' },
  { name: 'version', type: 'i64', doc: 'Rises with every change; the highest wins.' },
])
export type PersonDistinctIdOverrideRow = RowOf<typeof PERSON_DISTINCT_ID_OVERRIDES.columns>

export const GROUPS = defineTable('groups', [
  { name: 'group_type_index', type: 'u8', doc: '0 to 4.' },
  { name: 'group_key', type: 'string', doc: 'The key of the group.' },
  { name: 'created_at', type: 'dateTimeMs', doc: 'When first seen.' },
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  { name: 'group_properties', type: 'string', doc: 'Properties, as JSON.' },
  { name: '_version', type: 'u64', doc: 'Rises with every change; the highest wins.' },
])
export type GroupRow = RowOf<typeof GROUPS.columns>

export const INGESTION_WARNINGS = defineTable('ingestion_warnings', [
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  { name: 'source', type: 'lowString', doc: 'The stage that warns: capture, ingest.' },
  { name: 'type', type: 'string', doc: 'One of the warning types of the reference.' },
  { name: 'details', type: 'string', doc: 'What it is about, as JSON.' },
  { name: 'timestamp', type: 'dateTimeUs', doc: 'When capture received the event.' },
  ...SOURCE_COLUMNS,
])
export type IngestionWarningRow = RowOf<typeof INGESTION_WARNINGS.columns>

export const DEAD_LETTERS = defineTable('dead_letters', [
  { name: 'team_id', type: 'i64', doc: 'The project, 0 when not known.' },
  { name: 'uuid', type: 'uuid', doc: 'The id of the event, all zeros when not readable.' },
  { name: 'event', type: 'string', doc: 'Event name, if readable.' },
  { name: 'distinct_id', type: 'string', doc: 'distinct_id, if readable.' },
  { name: 'reason', type: 'lowString', doc: 'One of the dead-letter reasons of the reference.' },
  { name: 'detail', type: 'string', doc: 'What exactly went wrong.' },
  { name: 'step', type: 'lowString', doc: 'The step that gave up.' },
  { name: 'timestamp', type: 'dateTimeMs', doc: 'When capture received the event.' },
  { name: 'raw_header', type: 'bytes', doc: 'The raw record header, byte for byte.' },
  { name: 'raw_value', type: 'bytes', doc: 'The event, byte for byte as sent.' },
  ...SOURCE_COLUMNS,
])
export type DeadLetterRow = RowOf<typeof DEAD_LETTERS.columns>

export const OUTCOMES = defineTable('outcomes', [
  { name: 'team_id', type: 'i64', doc: 'The project, 0 when not known.' },
  { name: 'uuid', type: 'uuid', doc: 'The id of the event, all zeros when not readable.' },
  { name: 'event', type: 'string', doc: 'Event name, if readable.' },
  { name: 'distinct_id', type: 'string', doc: 'distinct_id, if readable.' },
  {
    name: 'state',
    type: 'lowString',
    doc: 'duplicate, dropped or dead_lettered: every end state but stored.',
  },
  { name: 'reason', type: 'lowString', doc: 'Why; for a duplicate empty.' },
  { name: 'first_source', type: 'string', doc: 'Of a duplicate: where the stored copy came from.' },
  { name: 'timestamp', type: 'dateTimeMs', doc: 'When capture received the event.' },
  ...SOURCE_COLUMNS,
])
export type OutcomeRow = RowOf<typeof OUTCOMES.columns>

export const DELIVERIES = defineTable('deliveries', [
  { name: 'team_id', type: 'i64', doc: 'The project.' },
  { name: 'destination_id', type: 'uuid', doc: 'The destination, or the replay into it.' },
  { name: 'uuid', type: 'uuid', doc: 'The id of the event.' },
  { name: 'event', type: 'string', doc: 'Event name.' },
  { name: 'distinct_id', type: 'string', doc: 'distinct_id.' },
  {
    name: 'state',
    type: 'lowString',
    doc: 'delivered, failed or expired. What a filter or a sample left out is counted, and has no row.',
  },
  { name: 'attempts', type: 'u32', doc: 'How often it was sent.' },
  { name: 'status', type: 'u16', doc: 'HTTP status of the last answer; 0 when there was none.' },
  { name: 'response', type: 'string', doc: 'Begin of the last answer, or why there was none.' },
  { name: 'timestamp', type: 'dateTimeMs', doc: 'When capture received the event.' },
  { name: 'finished_at', type: 'dateTimeMs', doc: 'When it came to this end.' },
  ...SOURCE_COLUMNS,
  { name: '_version', type: 'u64', doc: 'Rises; the highest wins.' },
])
export type DeliveryRow = RowOf<typeof DELIVERIES.columns>

/** Which table the rows of a topic go to. */
export const TABLE_OF_TOPIC = {
  [TOPICS.events]: EVENTS,
  [TOPICS.persons]: PERSON,
  [TOPICS.personDistinctIds]: PERSON_DISTINCT_ID_OVERRIDES,
  [TOPICS.groups]: GROUPS,
  [TOPICS.ingestionWarnings]: INGESTION_WARNINGS,
  [TOPICS.deadLetters]: DEAD_LETTERS,
  [TOPICS.outcomes]: OUTCOMES,
  [TOPICS.deliveries]: DELIVERIES,
} as const
