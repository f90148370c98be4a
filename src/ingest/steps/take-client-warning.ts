/** A warning that an SDK sends as an event becomes a row of `ingestion_warnings`; it says nothing of a person. */
import { drop, type Outcome, pass } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { own } from '../json.ts'

const CLIENT_WARNING = '$$client_ingestion_warning'

export function takeClientWarning(event: ParsedEvent): Outcome<ParsedEvent> {
  const { header, properties } = event
  if (header.event !== CLIENT_WARNING) return pass(event)
  return drop('client_warning', [
    {
      type: 'client_ingestion_warning',
      details: {
        eventUuid: header.uuid,
        event: header.event,
        distinctId: header.distinctId,
        message: own(properties, '$$client_ingestion_warning_message') ?? null,
        sdk: header.sdk,
      },
    },
  ])
}
