/**
 * The decision table of identify, alias and dangerous merge (ingestion spec §9.3, with ours where it is weak): T is
 * the event's id, S the other one, P(x) its person.
 *
 *   S = T                             nothing
 *   S or T is a placeholder           nothing, warning
 *   neither has a person              one person named after T, with both ids
 *   only P(T)                         S goes to P(T)
 *   only P(S), not identified         T goes to P(S)
 *   only P(S), identified             refused, warning; T gets a person of its own (unless dangerous)
 *   the same person                   it counts as identified from now on
 *   both, P(S) not identified         P(S) merges into P(T)
 *   both, P(S) identified             refused, warning (unless dangerous)
 */
import type { Warning } from '../../event/index.ts'
import { idText, isUnmergeable } from './illegal-ids.ts'
import { limitPerson } from './property-limit.ts'
import { sanitiseText } from './sanitise.ts'
import type { IdentityEvent } from './types.ts'
import type { IdEntry, Workspace } from './workspace.ts'

/** The other id of a merge request, when there is one to speak of. */
export function otherIdOf(event: IdentityEvent): string | undefined {
  const { merge } = event
  if (!merge || event.personProcessing !== 'on') return undefined
  if (merge.kind !== 'identify' && !merge.otherId) return undefined
  return idText(merge.otherId)
}

/** True when both ids may be joined: only then does the other one have to be read. */
export function mayMerge(distinctId: string, otherId: string): boolean {
  return otherId !== distinctId && !isUnmergeable(distinctId) && !isUnmergeable(otherId)
}

/** Carries out the merge request of `event`, whose own id is `target`. */
export function foldMerge(w: Workspace, event: IdentityEvent, target: IdEntry, warnings: Warning[]): void {
  const otherId = otherIdOf(event)
  if (otherId === undefined || otherId === event.distinctId) return
  if (!mayMerge(event.distinctId, otherId)) {
    warnings.push(illegalWarning(event, otherId))
    return
  }
  const source = w.entry(event.teamId, sanitiseText(otherId))
  if (source === target) return
  const dangerous = event.merge!.kind === 'dangerous'
  const ofTarget = w.live(target)
  const ofSource = w.live(source)
  if (ofTarget) ofTarget.checked = true
  if (ofSource) ofSource.checked = true

  if (!ofSource) {
    const person = ofTarget ?? createIdentified(w, event, target, warnings)
    w.attach(source, person, event.nowMs)
    person.identify(event.nowMs)
    return
  }
  if (!ofTarget) {
    if (ofSource.isIdentified && !dangerous) {
      warnings.push(refusal('cannot_attach_to_identified', event, otherId, undefined, ofSource.uuid))
      createIdentified(w, event, target, warnings).identify(event.nowMs)
      return
    }
    w.attach(target, ofSource, event.nowMs)
    ofSource.identify(event.nowMs)
    return
  }
  if (ofSource !== ofTarget) {
    if (!ofSource.isIdentified || dangerous) {
      const before = ofTarget.properties
      const { times } = ofTarget
      ofTarget.absorb(ofSource, event.nowMs)
      const latest = Object.keys(ofSource.properties).filter(
        (key) => !Object.hasOwn(before, key) || before[key] !== ofTarget.properties[key],
      )
      limitPerson(ofTarget, event, warnings, { latest, before, times })
    } else {
      warnings.push(refusal('cannot_merge_already_identified', event, otherId, ofTarget.uuid, ofSource.uuid))
    }
  }
  ofTarget.identify(event.nowMs)
}

function createIdentified(w: Workspace, event: IdentityEvent, target: IdEntry, warnings: Warning[]) {
  const person = w.create(target, { isIdentified: true, event })
  limitPerson(person, event, warnings)
  return person
}

function illegalWarning(event: IdentityEvent, otherId: string): Warning {
  const ownIsIllegal = isUnmergeable(event.distinctId)
  return {
    type: 'cannot_merge_with_illegal_distinct_id',
    details: {
      illegalDistinctId: ownIsIllegal ? event.distinctId : otherId,
      otherDistinctId: ownIsIllegal ? otherId : event.distinctId,
      distinctId: event.distinctId,
      eventUuid: event.uuid,
    },
  }
}

function refusal(
  type: 'cannot_attach_to_identified' | 'cannot_merge_already_identified',
  event: IdentityEvent,
  otherId: string,
  targetUuid: string | undefined,
  sourceUuid: string,
): Warning {
  return {
    type,
    details: {
      sourcePersonDistinctId: otherId,
      targetPersonDistinctId: event.distinctId,
      personId: targetUuid,
      otherPersonId: sourceUuid,
      distinctId: event.distinctId,
      eventUuid: event.uuid,
    },
  }
}
