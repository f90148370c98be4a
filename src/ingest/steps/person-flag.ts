/**
 * Says whether an event may touch its person (ingestion spec §4.4). The header knows what the event and the policies
 * of the project say; the project's option can only turn it off. `off` and `forcedOff` differ: only an event that is
 * `off` is shown with the person that there already is.
 *
 * An identify-family event that itself says `$process_person_profile: false` contradicts itself and could only be half
 * applied: it is dropped. One that a policy or the project turned off is no mistake of the client: it is stored
 * without a person.
 */
import { drop, type Outcome, pass, type Warning } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { beginningOf, own } from '../json.ts'

const IDENTITY_EVENTS = new Set(['$identify', '$create_alias', '$merge_dangerously'])

export function flagPerson(event: ParsedEvent): Outcome<ParsedEvent> {
  const { header, project } = event
  if (header.personProcessing === 'off' && IDENTITY_EVENTS.has(header.event)) {
    return drop('identify_without_person_processing', [
      {
        type: 'invalid_event_when_process_person_profile_is_false',
        details: { eventUuid: header.uuid, event: header.event, distinctId: header.distinctId },
      },
    ])
  }
  const optedOut = header.personProcessing === 'on' && project.options.personProcessing === 'off'
  const flagged: ParsedEvent = optedOut ? { ...event, personProcessing: 'off' } : event
  const flag = own(event.properties, '$process_person_profile')
  if (flag === undefined || typeof flag === 'boolean') return pass(flagged)
  const warning: Warning = {
    type: 'invalid_process_person_profile',
    details: {
      eventUuid: header.uuid,
      event: header.event,
      distinctId: header.distinctId,
      value: beginningOf(flag),
    },
  }
  return pass(flagged, [warning])
}
