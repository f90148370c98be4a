/**
 * What a batch asks of the identity step. In: its slots that are not decided. Out: their requests, and its cookieless
 * visitors, whose ids are found when what is stored of them was read: `resolve` puts them on the drafts, again after a
 * conflict. A batch without such visitors is known from the start.
 */
import type { Warning } from '../event/index.ts'
import type { Slot } from './batch.ts'
import {
  findIds,
  NO_STATES,
  type Visit,
  type VisitorStates,
  wantedVisitors,
  withIds,
} from './cookieless/index.ts'
import type { BatchVisitors, IdentityEvent } from './identity/types.ts'
import { identityRequest } from './steps/identity-request.ts'

export type BatchRequests = {
  /** Parallel to the slots. */
  events: IdentityEvent[]
  visitors: BatchVisitors | undefined
  /** Parallel to the slots: what was left out of the requests, as of the last `resolve`. */
  warnings(): Warning[][]
}

export function batchRequests(slots: readonly Slot[]): BatchRequests {
  const requests = slots.map((slot) => identityRequest(slot.draft!))
  const eventsNow = () => requests.map(({ event }) => event)
  const warnings = () => requests.map((request) => request.warnings)
  // Rows that were made of one event are of one visit: what it says of its visitor counts once.
  const visits: Visit[] = []
  const visiting = slots.flatMap((slot, i) => {
    if (!slot.visit) return []
    if (visits.at(-1) !== slot.visit) visits.push(slot.visit)
    return [{ slot, i, draft: slot.draft!, visit: visits.length - 1 }]
  })
  if (visiting.length === 0) return { events: eventsNow(), visitors: undefined, warnings }

  const resolve = (states: VisitorStates) => {
    const { ids, writes } = findIds(visits, states)
    for (const { slot, i, draft, visit } of visiting) {
      slot.ids = ids[visit]!
      slot.draft = withIds(draft, slot.ids)
      requests[i] = identityRequest(slot.draft)
    }
    return { events: eventsNow(), writes }
  }
  const { events } = resolve(NO_STATES)
  return { events, visitors: { wanted: wantedVisitors(visits), resolve }, warnings }
}
