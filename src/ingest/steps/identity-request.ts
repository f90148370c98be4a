/**
 * What an event asks of persons and groups, in the terms of the identity step. Ids and keys of groups become texts
 * here; what is too long or of a wrong type is left out with a warning, and the event goes on.
 * A group is no person: a `$groupidentify` changes its group also where person processing is off.
 */
import { boundDistinctId, type Warning } from '../../event/index.ts'
import type { Draft } from '../draft.ts'
import type { IdentityEvent, Json, MergeRequest } from '../identity/types.ts'
import { beginningOf, isObject, keyText, own } from '../json.ts'

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
    groupIdentify: header.event === '$groupidentify' ? groupIdentify(draft, warnings) : undefined,
  }
  return { event, warnings }
}

/**
 * Ingestion spec §9.1: an identify counts when the key is there, an alias when it is truthy. Of an id that cannot be
 * read, `validate` has told.
 */
function mergeRequest({ header, properties }: Draft): MergeRequest | undefined {
  if (header.event === '$identify') return mergeWith('identify', own(properties, '$anon_distinct_id'))
  const kind =
    header.event === '$create_alias'
      ? 'alias'
      : header.event === '$merge_dangerously'
        ? 'dangerous'
        : undefined
  return kind && mergeWith(kind, own(properties, 'alias') || undefined)
}

function mergeWith(kind: MergeRequest['kind'], sent: Json | undefined): MergeRequest | undefined {
  if (sent === undefined) return undefined
  if (sent === null) return { kind, otherId: null }
  const otherId = keyText(sent)
  // The same rule as for the event's own distinct_id, so that both name the same person.
  return otherId === undefined ? undefined : { kind, otherId: boundDistinctId(otherId) }
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
  const key = keyText(value)
  if (key === undefined) {
    const details = { field: 'group key', groupType: type, value: beginningOf(value), expected: 'a text' }
    warnings.push({ type: 'invalid_groups', details: { ...who(draft), ...details } })
    return undefined
  }
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
  if (typeof type !== 'string' || type === '' || value === undefined) {
    const details = { field: '$group_type, $group_key', expected: 'a text each' }
    warnings.push({ type: 'invalid_groups', details: { ...who(draft), ...details } })
    return undefined
  }
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
