/** What Postgres holds about the ids and groups of a batch, as one read saw it: the input of the fold. */

export type PersonRow = {
  id: number
  teamId: number
  uuid: string
  /** As Postgres spells it; parsed only when it is to change. Undefined when only personless events ask for it. */
  propertiesJson: string | undefined
  /** See event-time.ts; undefined when none are stored. */
  timesJson: string | undefined
  createdAtMs: number
  isIdentified: boolean
  version: number
  /** A tombstone: deleted, or merged into another. */
  dead: boolean
}

export type MappingRow = {
  version: number
  /** The person that the id leads to, merges followed. Dead only when that person was deleted. */
  person: PersonRow
}

export type GroupRow = { propertiesJson: string; createdAtMs: number; version: number }

export type Snapshot = {
  /** By `idKey`. */
  mappings: Map<string, MappingRow>
  /** By id: one object per person, whichever of the mappings lead to it. */
  persons: Map<number, PersonRow>
  /**
   * By `idKey`: the row that holds the uuid which a new person of this id would get. Read only after a conflict: it
   * exists when a person was deleted, or split off, and its id comes back.
   */
  namesakes: Map<string, PersonRow>
  /** By `idKey`: what the visitors of the batch were called when persons were looked up by it; undefined when not. */
  visitorIds: ReadonlySet<string> | undefined
  /** By team: type → index. */
  groupTypes: Map<number, Map<string, number>>
  /** By `groupKey`. */
  groups: Map<string, GroupRow>
}

/** Of the others only personless events speak: those change nobody, and are content with what was a moment ago. */
export function isFull(person: PersonRow | undefined): boolean {
  return person?.propertiesJson !== undefined
}

/** The ids of those that may change: whom the locked ways lock. */
export function fullIds({ persons }: Snapshot): Set<number> {
  const ids = new Set<number>()
  for (const person of persons.values()) if (isFull(person)) ids.add(person.id)
  return ids
}

export function idKey(teamId: number, distinctId: string): string {
  return `${teamId}:${distinctId}`
}

export function groupKey(teamId: number, typeIndex: number, key: string): string {
  return `${teamId}:${typeIndex}:${key}`
}

/**
 * Puts what was read again in the place of what `snapshot` holds of the same ids. False, and nothing is done, when a
 * person that other ids lead to as well has changed in between: those ids are then as old as its former version.
 */
export function adopt(snapshot: Snapshot, again: Snapshot): boolean {
  for (const { id, version } of again.persons.values()) {
    const known = snapshot.persons.get(id)
    // Newer than what was read: a batch of this process has changed it since, and what it left is known.
    if (known && known.version !== version && (known.version < version || known.propertiesJson === undefined))
      return false
  }
  for (const [key, { version, person }] of again.mappings) {
    const known = snapshot.persons.get(person.id)
    if (known?.version === person.version && !isFull(known)) {
      known.propertiesJson = person.propertiesJson
      known.timesJson = person.timesJson
    }
    snapshot.persons.set(person.id, known ?? person)
    snapshot.mappings.set(key, { version, person: known ?? person })
  }
  return true
}

export function emptySnapshot(): Snapshot {
  return {
    mappings: new Map(),
    persons: new Map(),
    namesakes: new Map(),
    visitorIds: undefined,
    groupTypes: new Map(),
    groups: new Map(),
  }
}
