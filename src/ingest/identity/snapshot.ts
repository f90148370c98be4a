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

export function idKey(teamId: number, distinctId: string): string {
  return `${teamId}:${distinctId}`
}

export function groupKey(teamId: number, typeIndex: number, key: string): string {
  return `${teamId}:${typeIndex}:${key}`
}

export function emptySnapshot(): Snapshot {
  return {
    mappings: new Map(),
    namesakes: new Map(),
    visitorIds: undefined,
    groupTypes: new Map(),
    groups: new Map(),
  }
}
