/**
 * Draft and stamp → one row for ClickHouse. A pure function: the same raw record and the same state give the same
 * bytes. Cost: one JSON.stringify of the properties, about 5 µs for 1.2 kB.
 */
import { type ByteRange, EVENTS, type EventRow, type Source } from '../event/index.ts'
import type { Draft } from './draft.ts'
import type { JsonObject, Stamp } from './identity/types.ts'

/** How the row names the groups of its event, by index. */
const GROUP_KEYS = ['$group_0', '$group_1', '$group_2', '$group_3', '$group_4'] as const
const EPOCH_MS = 0

/** RowBinary bytes of the event's row. */
export function packEventRow(
  draft: Draft,
  stamp: Stamp,
  source: Source,
  lane: { historical: boolean; configVersion: number; restamped: boolean },
): ByteRange {
  const { header } = draft
  const { groupProperties, groupCreatedAt } = groupColumns(stamp)
  const row: EventRow = {
    uuid: header.uuid,
    event: draft.name,
    properties: JSON.stringify(shownProperties(draft.properties, stamp)),
    timestamp: header.timestampMs,
    team_id: draft.teamId,
    distinct_id: header.distinctId,
    elements_chain: draft.elementsChain,
    created_at: header.nowMs,
    person_id: stamp.personUuid,
    person_created_at: stamp.personCreatedAtMs,
    person_properties: stamp.personPropertiesJson,
    group0_properties: groupProperties[0]!,
    group1_properties: groupProperties[1]!,
    group2_properties: groupProperties[2]!,
    group3_properties: groupProperties[3]!,
    group4_properties: groupProperties[4]!,
    group0_created_at: groupCreatedAt[0]!,
    group1_created_at: groupCreatedAt[1]!,
    group2_created_at: groupCreatedAt[2]!,
    group3_created_at: groupCreatedAt[3]!,
    group4_created_at: groupCreatedAt[4]!,
    person_mode: stamp.mode,
    historical_migration: lane.historical,
    _log_id: source.logId,
    _partition: source.partition,
    _offset: source.offset,
    _sub: source.sub,
    _config_version: lane.configVersion,
    _restamped: lane.restamped,
  }
  return EVENTS.pack(row)
}

const NO_GROUPS = {
  groupProperties: ['', '', '', '', ''],
  groupCreatedAt: [EPOCH_MS, EPOCH_MS, EPOCH_MS, EPOCH_MS, EPOCH_MS],
}

function groupColumns({ groups }: Stamp): typeof NO_GROUPS {
  if (groups.length === 0) return NO_GROUPS
  const columns = {
    groupProperties: [...NO_GROUPS.groupProperties],
    groupCreatedAt: [...NO_GROUPS.groupCreatedAt],
  }
  for (const { index, propertiesJson, createdAtMs } of groups) {
    columns.groupProperties[index] = propertiesJson
    columns.groupCreatedAt[index] = createdAtMs
  }
  return columns
}

/**
 * With the keys of the event's groups, and without any where no person is. Most events have neither, and a copy costs as
 * much as its JSON.
 */
function shownProperties(properties: JsonObject, { mode, groups }: Stamp): JsonObject {
  if (mode === 'full') {
    if (groups.length === 0) return properties
    const shown = { ...properties }
    for (const group of groups) shown[GROUP_KEYS[group.index]!] = group.key
    return shown
  }
  if (GROUP_KEYS.every((key) => properties[key] === undefined)) return properties
  const shown = { ...properties }
  for (const key of GROUP_KEYS) delete shown[key]
  return shown
}
