/** What a batch has to know before it is folded: ids and groups that its events name, and its cookieless visitors. */
import type { WantedVisitors } from '../cookieless/index.ts'
import { mayMerge, otherIdOf } from './merge.ts'
import { sanitiseText } from './sanitise.ts'
import { idKey } from './snapshot.ts'
import type { IdentityEvent } from './types.ts'

/** Each thing once. */
export type Wanted = {
  /** `full`: properties are wanted too. */
  ids: { teamIds: number[]; distinctIds: string[]; full: boolean[] }
  groups: { teamIds: number[]; types: string[]; keys: string[] }
  /** The ids that they have now are wanted as well, whatever these are. */
  visitors: WantedVisitors
}

/** Collects the ids and groups that `events` name. */
export function wantedBy(events: readonly IdentityEvent[], visitors: WantedVisitors = []): Wanted {
  const wanted: Wanted = {
    ids: { teamIds: [], distinctIds: [], full: [] },
    groups: { teamIds: [], types: [], keys: [] },
    visitors,
  }
  const { ids } = wanted
  const seen = new Map<string, number>()
  const wantId = (teamId: number, rawId: string, full: boolean) => {
    const distinctId = sanitiseText(rawId)
    const key = idKey(teamId, distinctId)
    const at = seen.get(key)
    if (at !== undefined) {
      if (full) ids.full[at] = true
      return
    }
    seen.set(key, ids.teamIds.length)
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

/** The same without properties and groups: who has to be locked. */
export function idsOnly({ ids, visitors }: Wanted): Wanted {
  return {
    ids: { ...ids, full: ids.full.map(() => false) },
    groups: { teamIds: [], types: [], keys: [] },
    visitors,
  }
}
