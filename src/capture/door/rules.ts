/**
 * A project's policy, made ready for the hot path: once per change of the policy, sets instead of lists. A policy that
 * asks nothing of capture compiles to undefined, so that its events cost nothing. Per event: a look at each restriction.
 */
import {
  DEFAULT_BURST_SECONDS,
  type ProjectPolicy,
  type Restriction,
  type RestrictionAction,
} from '../../catalog/index.ts'
import { boundDistinctId, type RawHeader } from '../../event/index.ts'

/** What restrictions say of one event; several may hold at once. */
export const RULED_DROP = 1
export const RULED_DEAD_LETTER = 2
export const RULED_HISTORICAL = 4
export const RULED_PERSONLESS = 8

const RULED: Record<RestrictionAction, number> = {
  drop: RULED_DROP,
  dead_letter: RULED_DEAD_LETTER,
  historical: RULED_HISTORICAL,
  skip_person_processing: RULED_PERSONLESS,
}

type CompiledRestriction = {
  ruled: number
  distinctIds: ReadonlySet<string> | undefined
  events: ReadonlySet<string> | undefined
  uuids: ReadonlySet<string> | undefined
}

export type Rules = {
  restrictions: readonly CompiledRestriction[]
  eventsPerMonth: number | undefined
  rate: { perSecond: number; burst: number } | undefined
  historical: boolean
}

export function compileRules(policy: ProjectPolicy | undefined): Rules | undefined {
  if (policy === undefined) return undefined
  const { restrictions = [], events_per_month, events_per_second, burst, lane } = policy
  const rate =
    events_per_second === undefined
      ? undefined
      : { perSecond: events_per_second, burst: burst ?? events_per_second * DEFAULT_BURST_SECONDS }
  const historical = lane === 'historical'
  if (restrictions.length === 0 && events_per_month === undefined && !rate && !historical) return undefined
  return {
    restrictions: restrictions.map(compileRestriction),
    eventsPerMonth: events_per_month,
    rate,
    historical,
  }
}

function compileRestriction({ action, distinct_ids, events, uuids }: Restriction): CompiledRestriction {
  return {
    ruled: RULED[action],
    // As the header of such an event holds it.
    distinctIds: distinct_ids && new Set(distinct_ids.map(boundDistinctId)),
    events: events && new Set(events),
    uuids: uuids && new Set(uuids),
  }
}

/** Everything that the restrictions say of the event: AND across kinds of filters, OR within one, none = all. */
export function ruledOn(rules: Rules, header: RawHeader): number {
  let ruled = 0
  for (const restriction of rules.restrictions) {
    const { distinctIds, events, uuids } = restriction
    if (events !== undefined && !events.has(header.event)) continue
    if (distinctIds !== undefined && !distinctIds.has(header.distinctId)) continue
    if (uuids !== undefined && !uuids.has(header.uuid)) continue
    ruled |= restriction.ruled
    if (ruled & RULED_DROP) return ruled
  }
  return ruled
}
