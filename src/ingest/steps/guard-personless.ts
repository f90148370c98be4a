/** Refuses identify-family events whose person processing is off: they could only be half applied (§4.4). */
import { drop, type Outcome, pass, type Warning } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { own } from '../json.ts'

const IDENTITY_EVENTS = new Set(['$identify', '$create_alias', '$merge_dangerously'])

export function guardPersonless(event: ParsedEvent): Outcome<ParsedEvent> {
  const { header } = event
  if (header.personProcessing === 'off' && IDENTITY_EVENTS.has(header.event)) {
    return drop('identify_without_person_processing', [
      {
        type: 'invalid_event_when_process_person_profile_is_false',
        details: { eventUuid: header.uuid, event: header.event, distinctId: header.distinctId },
      },
    ])
  }
  const flag = own(event.properties, '$process_person_profile')
  if (flag !== undefined && typeof flag !== 'boolean') {
    const warning: Warning = {
      type: 'invalid_process_person_profile',
      details: { eventUuid: header.uuid, event: header.event, distinctId: header.distinctId, value: flag },
    }
    return pass(event, [warning])
  }
  return pass(event)
}
