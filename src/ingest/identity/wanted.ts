/** What a batch has to know before it is folded: ids and groups that its events name, and its cookieless visitors. */
import type { WantedVisitors } from '../cookieless/index.ts'
import { mayMerge, otherIdOf } from './merge.ts'
import { sanitiseText } from './sanitise.ts'
import { idKey } from './snapshot.ts'
import type { IdentityEvent } from './types.ts'

export type WantedIds = {
  teamIds: number[]
  distinctIds: string[]
  /** Properties are wanted too. */
  full: boolean[]
  /** Where each id stands in these lists, by `idKey`. */
  places: ReadonlyMap<string, number>
}

/** Each thing once. */
export type Wanted = {
  ids: WantedIds
  groups: { teamIds: number[]; types: string[]; keys: string[] }
  /** The ids that they have now are wanted as well, whatever these are. */
  visitors: WantedVisitors
}

/** Collects the ids and groups that `events` name. */
export function wantedBy(events: readonly IdentityEvent[], visitors: WantedVisitors = []): Wanted {
  const places = new Map<string, number>()
  const wanted: Wanted = {
    ids: { teamIds: [], distinctIds: [], full: [], places },
    groups: { teamIds: [], types: [], keys: [] },
    visitors,
  }
  const { ids } = wanted
  const wantId = (teamId: number, rawId: string, full: boolean) => {
    const distinctId = sanitiseText(rawId)
    const key = idKey(teamId, distinctId)
    const at = places.get(key)
    if (at !== undefined) {
      if (full) ids.full[at] = true
      return
    }
    places.set(key, ids.teamIds.length)
    ids.teamIds.push(teamId)
    ids.distinctIds.push(distinctId)
    ids.full.push(full)
  }
  const seenGroups = new Set<string>()
  const wantGroup = (teamId: number, rawType: string, rawKey: string) => {
    const type = sanitiseText(rawType)
    const key = sanitiseText(rawKey)
    const id = JSON.stringify([teamId, type, key])
    if (seenGroups.has(id)) return
    seenGroups.add(id)
    wanted.groups.teamIds.push(teamId)
    wanted.groups.types.push(type)
    wanted.groups.keys.push(key)
  }
  for (const event of events) {
    const { groups, groupIdentify } = event
    if (groups) for (const type of Object.keys(groups)) wantGroup(event.teamId, type, groups[type]!)
    if (groupIdentify) wantGroup(event.teamId, groupIdentify.type, groupIdentify.key)
    if (event.personProcessing === 'forcedOff') continue
    wantId(event.teamId, event.distinctId, event.personProcessing === 'on')
    const otherId = otherIdOf(event)
    if (otherId !== undefined && mayMerge(event.distinctId, otherId)) wantId(event.teamId, otherId, true)
  }
  return wanted
}

const NO_GROUPS: Wanted['groups'] = { teamIds: [], types: [], keys: [] }

/** The same without properties and groups: who has to be locked. */
export function idsOnly({ ids, visitors }: Wanted): Wanted {
  return { ids: { ...ids, full: ids.full.map(() => false) }, groups: NO_GROUPS, visitors }
}

/** Only the ids at `places`: what has to be read again. */
export function onlyIds({ ids }: Wanted, places: Iterable<number>, groups = NO_GROUPS): Wanted {
  const at = new Map<string, number>()
  const some = { teamIds: [] as number[], distinctIds: [] as string[], full: [] as boolean[], places: at }
  for (const place of places) {
    at.set(idKey(ids.teamIds[place]!, ids.distinctIds[place]!), some.teamIds.length)
    some.teamIds.push(ids.teamIds[place]!)
    some.distinctIds.push(ids.distinctIds[place]!)
    some.full.push(ids.full[place]!)
  }
  return { ids: some, groups, visitors: [] }
}
