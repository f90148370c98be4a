/** Two collections become one. Bounded: of more names than `namesMax` those that came most often stay, the rest is counted. Pure. */
import type { Collected, PropertyType, Seen, SeenProperty } from './types.ts'

export function emptyCollection(): Collected {
  return { rows: 0, events: [], properties: [], eventsBeyond: new Map(), propertiesBeyond: new Map() }
}

export function countBeyond(beyond: Map<number, number>, teamId: number, volume: number): void {
  beyond.set(teamId, (beyond.get(teamId) ?? 0) + volume)
}

/** Adds `more` to `into`. */
export function mergeInto(into: Collected, more: Collected, namesMax: number): void {
  into.rows += more.rows
  into.events = merged(into.events, more.events, ({ teamId, event }) => `${teamId}\n${event}`)
  into.properties = merged(into.properties, more.properties, propertyKey, addTypes)
  for (const [teamId, volume] of more.eventsBeyond) countBeyond(into.eventsBeyond, teamId, volume)
  for (const [teamId, volume] of more.propertiesBeyond) countBeyond(into.propertiesBeyond, teamId, volume)
  into.events = cut(into.events, namesMax, into.eventsBeyond)
  into.properties = cut(into.properties, namesMax, into.propertiesBeyond)
}

function merged<T extends Seen>(
  some: readonly T[],
  more: readonly T[],
  keyOf: (one: T) => string,
  add: (to: T, from: T) => void = () => {},
): T[] {
  const known = new Map(some.map((one) => [keyOf(one), one]))
  for (const one of more) {
    const before = known.get(keyOf(one))
    if (!before) {
      known.set(keyOf(one), one)
      continue
    }
    before.volume += one.volume
    before.firstMs = Math.min(before.firstMs, one.firstMs)
    before.lastMs = Math.max(before.lastMs, one.lastMs)
    add(before, one)
  }
  return [...known.values()]
}

function propertyKey({ teamId, kind, owner, name }: SeenProperty): string {
  return `${teamId}\n${kind}\n${owner.length}\n${owner}${name}`
}

function addTypes(to: SeenProperty, from: SeenProperty): void {
  for (const [type, volume] of Object.entries(from.types) as [PropertyType, number][]) {
    to.types[type] = (to.types[type] ?? 0) + volume
  }
}

function cut<T extends Seen & { teamId: number }>(
  all: T[],
  namesMax: number,
  beyond: Map<number, number>,
): T[] {
  if (all.length <= namesMax) return all
  const sorted = all.sort((a, b) => b.volume - a.volume)
  for (const { teamId, volume } of sorted.slice(namesMax)) countBeyond(beyond, teamId, volume)
  return sorted.slice(0, namesMax)
}
