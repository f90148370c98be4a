/**
 * What an event asks of persons and groups, in the terms of the identity step. Keys of groups become strings here;
 * a key that is too long, or a `$group_set` that is no object, is left out with a warning.
 */
import { boundDistinctId, type Warning } from '../../event/index.ts'
import type { Draft } from '../draft.ts'
import type { IdentityEvent, Json, MergeRequest } from '../identity/types.ts'
import { isObject, own } from '../json.ts'

/** UTF-16 units; upstream's limit. */
const GROUP_KEY_LENGTH_MAX = 400
/** A project has five types; each further one costs a warning. */
const GROUPS_PER_EVENT_MAX = 20

export function identityRequest(draft: Draft): { event: IdentityEvent; warnings: Warning[] } {
  const { header } = draft
  const warnings: Warning[] = []
  const personful = draft.personProcessing === 'on'
  const event: IdentityEvent = {
    teamId: draft.teamId,
    distinctId: header.distinctId,
    name: draft.name,
    uuid: header.uuid,
    timestampMs: header.timestampMs,
    nowMs: header.nowMs,
    personProcessing: draft.personProcessing,
    set: draft.set,
    setOnce: draft.setOnce,
    unset: draft.unset,
    merge: personful ? mergeRequest(draft) : undefined,
    groups: personful ? groupKeys(draft, warnings) : undefined,
    groupIdentify:
      personful && header.event === '$groupidentify' ? groupIdentify(draft, warnings) : undefined,
  }
  return { event, warnings }
}

/** Ingestion spec §9.1: an identify counts when the key is there, an alias when it is truthy. */
function mergeRequest({ header, properties }: Draft): MergeRequest | undefined {
  if (header.event === '$identify') {
    const otherId = own(properties, '$anon_distinct_id')
    return otherId === undefined ? undefined : { kind: 'identify', otherId: bounded(otherId) }
  }
  if (header.event !== '$create_alias' && header.event !== '$merge_dangerously') return undefined
  const otherId = own(properties, 'alias')
  if (!otherId) return undefined
  return { kind: header.event === '$create_alias' ? 'alias' : 'dangerous', otherId: bounded(otherId) }
}

/** The same rule as for the event's own distinct_id, so that both name the same person. */
function bounded(otherId: Json): Json {
  return typeof otherId === 'string' ? boundDistinctId(otherId) : otherId
}

function groupKeys(draft: Draft, warnings: Warning[]): Record<string, string> | undefined {
  const groups = own(draft.properties, '$groups')
  if (!isObject(groups)) return undefined
  // A null prototype, so that a type named "__proto__" is a key like any other.
  const keys: Record<string, string> = Object.create(null)
  let some = false
  const types = Object.keys(groups)
  if (types.length > GROUPS_PER_EVENT_MAX) {
    warnings.push({
      type: 'too_many_group_types',
      details: { ...who(draft), groupTypes: types.length, groupTypesMax: GROUPS_PER_EVENT_MAX },
    })
  }
  for (const type of types.slice(0, GROUPS_PER_EVENT_MAX)) {
    const value = groups[type]!
    const key = groupKey(draft, type, value, warnings)
    if (key === undefined) continue
    keys[type] = key
    some = true
  }
  return some ? keys : undefined
}

function groupKey(draft: Draft, type: string, value: Json, warnings: Warning[]): string | undefined {
  if (value === null || value === '') return undefined
  const key = typeof value === 'string' ? value : JSON.stringify(value)
  if (key.length <= GROUP_KEY_LENGTH_MAX) return key
  warnings.push({
    type: 'group_key_too_long',
    details: {
      ...who(draft),
      groupType: type,
      groupKey: key.slice(0, 100),
      length: key.length,
      maxLength: GROUP_KEY_LENGTH_MAX,
    },
  })
  return undefined
}

function groupIdentify(draft: Draft, warnings: Warning[]): IdentityEvent['groupIdentify'] {
  const type = own(draft.properties, '$group_type')
  const value = own(draft.properties, '$group_key')
  if (typeof type !== 'string' || type === '' || value === undefined) return undefined
  const key = groupKey(draft, type, value, warnings)
  if (key === undefined) return undefined
  const set = own(draft.properties, '$group_set') ?? {}
  if (!isObject(set)) {
    warnings.push({ type: 'invalid_group_set', details: { ...who(draft), groupType: type, groupKey: key } })
    return undefined
  }
  return { type, key, set }
}

function who({ header }: Draft): { eventUuid: string; distinctId: string } {
  return { eventUuid: header.uuid, distinctId: header.distinctId }
}
