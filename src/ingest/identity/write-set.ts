/** What a batch changes, no row twice: the output of the fold and the input of the apply. */

/** A person that is changed, or that a decision rested on: must be as it was read. */
export type PersonCheck = { id: number; version: number; dead: boolean }

export type PersonWrite = {
  /** Undefined for a new person. */
  id: number | undefined
  /** As read; undefined for a new person. */
  expectedVersion: number | undefined
  teamId: number
  uuid: string
  /** Undefined when the stored text stays. */
  propertiesJson: string | undefined
  /** What the state row shows. */
  shownPropertiesJson: string
  /** See event-time.ts; undefined when what is stored stays, `{}` for none. */
  timesJson: string | undefined
  createdAtMs: number
  isIdentified: boolean
  version: number
}

export type MergeWrite = {
  teamId: number
  /** Undefined when it was born in this batch. */
  loserId: number | undefined
  loserUuid: string
  intoUuid: string
  /** Who gets the ids: the last survivor when several merges of the batch are chained. */
  homeUuid: string
  version: number
  nowMs: number
  createdAtMs: number
  isIdentified: boolean
}

export type MappingWrite = {
  teamId: number
  distinctId: string
  personUuid: string
  version: number
  /** As read; undefined when the id had no mapping. */
  expectedVersion: number | undefined
}

export type GroupTypeWrite = { teamId: number; type: string; index: number }

export type GroupWrite = {
  teamId: number
  index: number
  key: string
  propertiesJson: string
  createdAtMs: number
  version: number
  expectedVersion: number | undefined
}

export type WriteSet = {
  checks: PersonCheck[]
  /** New and changed persons, losers of merges excepted (but a loser that was born in the batch is here too). */
  persons: PersonWrite[]
  merges: MergeWrite[]
  mappings: MappingWrite[]
  groupTypes: GroupTypeWrite[]
  groups: GroupWrite[]
}
