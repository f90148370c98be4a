/**
 * Looks at what an event must be right in (ingestion spec §3.3; names, lengths and times are capture's). Only two
 * things keep an event out: nobody to whom it belongs, and an age beyond what its project wants. A property that ingest
 * acts upon and that has a wrong type is told to the project's owner and counts as absent: the rest of the event is
 * as good as any. Names with `$` have no meaning in a property of objects, so plain reads are safe here.
 */
import { drop, type Outcome, pass, type Warning, type WarningType } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import type { Json, JsonObject } from '../identity/types.ts'
import { beginningOf, isObject, keyText, own } from '../json.ts'

type Expectation = {
  readonly name: string
  readonly expected: string
  readonly warning: WarningType
  fits(value: Json): boolean
}

const isKeys = (value: Json) => Array.isArray(value) || isObject(value)
const ABOUT_PERSON: readonly Expectation[] = [
  { name: '$set', expected: 'an object', warning: 'invalid_person_properties', fits: isObject },
  { name: '$set_once', expected: 'an object', warning: 'invalid_person_properties', fits: isObject },
  { name: '$unset', expected: 'a list of keys', warning: 'invalid_person_properties', fits: isKeys },
]
const IN_PROPERTIES: readonly Expectation[] = [
  ...ABOUT_PERSON,
  { name: '$groups', expected: 'an object', warning: 'invalid_groups', fits: isObject },
  { name: '$elements', expected: 'a list', warning: 'invalid_elements', fits: Array.isArray },
  {
    name: '$elements_chain',
    expected: 'a text',
    warning: 'invalid_elements',
    fits: (value) => typeof value === 'string',
  },
]

export function validate(event: ParsedEvent): Outcome<ParsedEvent> {
  const { header, project, body, properties } = event
  if (header.distinctId === '') {
    return drop('illegal_distinct_id', [warningOf(event, 'skipping_event_invalid_distinct_id', {})])
  }
  // A time that no clock shows says nothing of the event's age.
  const ageMs = header.timeRule === 'outOfRange' ? 0 : header.nowMs - header.timestampMs
  if (ageMs > project.options.ageMsMax) {
    const ageSeconds = Math.floor(ageMs / 1000)
    const details = { ageSeconds, ageSecondsMax: project.options.ageMsMax / 1000 }
    return drop('event_too_old', [warningOf(event, 'event_dropped_too_old', details)])
  }
  const warnings: Warning[] = []
  checkTypes(event, body, ABOUT_PERSON, '', warnings)
  checkTypes(event, properties, IN_PROPERTIES, 'properties.', warnings)
  checkOtherId(event, warnings)
  return pass(event, warnings)
}

function checkTypes(
  event: ParsedEvent,
  object: JsonObject,
  expectations: readonly Expectation[],
  path: string,
  warnings: Warning[],
): void {
  for (let i = 0; i < expectations.length; i++) {
    const { name, expected, warning, fits } = expectations[i]!
    const value = object[name]
    if (value === undefined || value === null || fits(value)) continue
    warnings.push(warningOf(event, warning, { field: path + name, value: beginningOf(value), expected }))
  }
}

/** An id that cannot be read joins nobody; see `identityRequest`. */
function checkOtherId(event: ParsedEvent, warnings: Warning[]): void {
  const { header, properties } = event
  const isIdentify = header.event === '$identify'
  if (!isIdentify && header.event !== '$create_alias' && header.event !== '$merge_dangerously') return
  const otherId = own(properties, isIdentify ? '$anon_distinct_id' : 'alias')
  if (otherId === undefined || otherId === null || keyText(otherId) !== undefined) return
  const type = isIdentify ? 'invalid_anon_distinct_id' : 'invalid_alias'
  warnings.push(warningOf(event, type, { value: beginningOf(otherId) }))
}

function warningOf({ header }: ParsedEvent, type: WarningType, details: Record<string, unknown>): Warning {
  const { uuid, event, distinctId } = header
  return { type, details: { eventUuid: uuid, event, distinctId, ...details } }
}
