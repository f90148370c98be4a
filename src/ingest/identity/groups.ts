/**
 * Group types and group state (ingestion spec §10): a project has at most five types, numbered in the order in which
 * they were first seen; a group is changed by `$groupidentify` only, key by key, and written only when a value
 * differs by deep equality.
 */
import { put, type Warning } from '../../event/index.ts'
import { deepEqual, valuesUnder } from './properties.ts'
import { GROUP_BYTES_MAX, isOver, keepWithin, tooLargeWarning } from './property-limit.ts'
import { sanitiseObject, sanitiseText } from './sanitise.ts'
import { groupKey } from './snapshot.ts'
import type { GroupStamp, IdentityEvent, JsonObject } from './types.ts'
import type { WorkingGroup, Workspace } from './workspace.ts'

export const GROUP_TYPES_MAX = 5
/** UTF-16 units of a type's name and of a key: both are parts of an index. */
const GROUP_NAME_LENGTH_MAX = 400

/** Changes the group that a `$groupidentify` is about. */
export function foldGroupIdentify(w: Workspace, event: IdentityEvent, warnings: Warning[]): void {
  if (!event.groupIdentify) return
  const { type, key, set } = event.groupIdentify
  const index = typeIndex(w, event, type, key, warnings)
  if (index === undefined) return
  const cleanKey = sanitiseText(key)
  const group = groupOf(w, event.teamId, index, cleanKey)
  const clean = sanitiseObject(set)
  if (!group) {
    limitGroup(createGroup(w, event, index, cleanKey, clean), event, warnings)
    return
  }
  const changed = Object.keys(clean).filter(
    (name) => !Object.hasOwn(group.properties, name) || !deepEqual(group.properties[name]!, clean[name]!),
  )
  if (changed.length === 0) return
  const before = valuesUnder(group.properties, changed)
  for (const name of changed) put(group.properties, name, clean[name]!)
  group.json = JSON.stringify(group.properties)
  group.version = Math.max(group.version, (group.row?.version ?? 0) + 1, event.nowMs)
  group.changed = true
  limitGroup(group, event, warnings, changed, before)
}

function limitGroup(
  group: WorkingGroup,
  event: IdentityEvent,
  warnings: Warning[],
  latest: readonly string[] = [],
  before: JsonObject = {},
): void {
  if (!isOver(GROUP_BYTES_MAX.limit, group.json)) return
  const leftOut = keepWithin(GROUP_BYTES_MAX, group.properties, latest, before)
  group.json = JSON.stringify(group.properties)
  const whose = { groupTypeIndex: group.index, groupKey: group.key }
  warnings.push(tooLargeWarning('group_properties_too_large', event, GROUP_BYTES_MAX.limit, leftOut, whose))
}

/** The groups that the event is stamped with, as they are now. */
export function stampGroups(w: Workspace, event: IdentityEvent, warnings: Warning[]): GroupStamp[] {
  if (!event.groups) return []
  const stamps: GroupStamp[] = []
  for (const type of Object.keys(event.groups)) {
    const key = event.groups[type]!
    const index = typeIndex(w, event, type, key, warnings)
    if (index === undefined) continue
    const cleanKey = sanitiseText(key)
    const group = groupOf(w, event.teamId, index, cleanKey)
    stamps.push({
      index,
      key: cleanKey,
      propertiesJson: group?.json ?? '{}',
      createdAtMs: group?.createdAtMs ?? 0,
    })
  }
  return stamps
}

/** The number of a type; a new one gets the lowest that is free. Undefined, with a warning, when it cannot have one. */
function typeIndex(
  w: Workspace,
  event: IdentityEvent,
  rawType: string,
  key: string,
  warnings: Warning[],
): number | undefined {
  const type = sanitiseText(rawType)
  let types = w.groupTypes.get(event.teamId)
  const known = types?.get(type)
  if (type.length > GROUP_NAME_LENGTH_MAX || key.length > GROUP_NAME_LENGTH_MAX) {
    const details = {
      groupType: sanitiseText(type.slice(0, 100)),
      groupKey: sanitiseText(key.slice(0, 100)),
      maxLength: GROUP_NAME_LENGTH_MAX,
    }
    warnOnce(warnings, { type: 'group_key_too_long', details: { eventUuid: event.uuid, ...details } })
    return undefined
  }
  if (known !== undefined) return known
  if (!types) {
    types = new Map()
    w.groupTypes.set(event.teamId, types)
  }
  const taken = new Set(types.values())
  for (let index = 0; index < GROUP_TYPES_MAX; index++) {
    if (taken.has(index)) continue
    types.set(type, index)
    w.newGroupTypes.push({ teamId: event.teamId, type, index })
    return index
  }
  const details = { eventUuid: event.uuid, groupType: type, groupTypesMax: GROUP_TYPES_MAX }
  warnOnce(warnings, { type: 'too_many_group_types', details })
  return undefined
}

/** A `$groupidentify` names its group twice; one warning is enough. */
function warnOnce(warnings: Warning[], warning: Warning): void {
  const said = warnings.some(
    (w) => w.type === warning.type && w.details.groupType === warning.details.groupType,
  )
  if (!said) warnings.push(warning)
}

function groupOf(w: Workspace, teamId: number, index: number, key: string): WorkingGroup | undefined {
  const id = groupKey(teamId, index, key)
  const known = w.groups.get(id)
  if (known) return known
  const row = w.snapshot.groups.get(id)
  if (!row) return undefined
  const group: WorkingGroup = {
    teamId,
    index,
    key,
    row,
    properties: JSON.parse(row.propertiesJson) as JsonObject,
    json: row.propertiesJson,
    createdAtMs: row.createdAtMs,
    version: row.version,
    changed: false,
  }
  w.groups.set(id, group)
  return group
}

function createGroup(
  w: Workspace,
  event: IdentityEvent,
  index: number,
  key: string,
  set: JsonObject,
): WorkingGroup {
  // Later events change the properties in place, and the event's own object is not ours.
  const properties: JsonObject = {}
  for (const name of Object.keys(set)) put(properties, name, set[name]!)
  const group: WorkingGroup = {
    teamId: event.teamId,
    index,
    key,
    row: undefined,
    properties,
    json: JSON.stringify(properties),
    createdAtMs: Math.min(event.nowMs, event.timestampMs),
    version: Math.max(1, event.nowMs),
    changed: true,
  }
  w.groups.set(groupKey(event.teamId, index, key), group)
  return group
}
