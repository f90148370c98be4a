/**
 * The state of a batch while it is folded: persons by id, with what changed, over the snapshot. Single-threaded and
 * thrown away after the batch. A person's properties are parsed at the first event that says something about them.
 *
 * A WorkingPerson is alive until `mergedInto` is set; ids find the survivor by following it.
 */
import { personUuid } from '../../event/index.ts'
import { mergedProperties } from './properties.ts'
import { type GroupRow, idKey, type MappingRow, type PersonRow, type Snapshot } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

export class WorkingPerson {
  createdAtMs: number
  isIdentified: boolean
  /** A decision of the batch rested on this person. */
  checked = false
  changed = false
  propertiesChanged = false
  /** Newest time of the events that changed it. */
  nowMs = 0
  /** The new version is above this: its own, and that of every person merged into it. */
  versionFloor: number
  mergedInto: WorkingPerson | undefined
  /** The event that created it in this batch; its properties are in already. */
  creator: IdentityEvent | undefined
  private text: string | undefined
  private parsed: JsonObject | undefined

  constructor(
    readonly teamId: number,
    readonly uuid: string,
    readonly row: PersonRow | undefined,
    born: { properties: JsonObject; createdAtMs: number; isIdentified: boolean } | undefined,
  ) {
    this.versionFloor = row?.version ?? 0
    this.createdAtMs = born?.createdAtMs ?? row!.createdAtMs
    this.isIdentified = born?.isIdentified ?? row!.isIdentified
    if (born) {
      this.parsed = born.properties
      this.propertiesChanged = true
    } else {
      this.text = row!.propertiesJson
    }
  }

  get properties(): JsonObject {
    this.parsed ??= JSON.parse(this.text!) as JsonObject
    return this.parsed
  }

  /** The properties as JSON; the stored text as long as nothing changed. */
  get json(): string {
    this.text ??= JSON.stringify(this.parsed)
    return this.text
  }

  /** To be called after a change of `properties`. */
  propertiesTouched(nowMs: number): void {
    this.text = undefined
    this.propertiesChanged = true
    this.touch(nowMs)
  }

  touch(nowMs: number): void {
    this.changed = true
    if (nowMs > this.nowMs) this.nowMs = nowMs
  }

  identify(nowMs: number): void {
    if (this.isIdentified) return
    this.isIdentified = true
    this.touch(nowMs)
  }

  /** Takes over everything of `loser` but its ids, which follow `mergedInto`. */
  absorb(loser: WorkingPerson, nowMs: number): void {
    this.parsed = mergedProperties(this.properties, loser.properties)
    this.propertiesTouched(nowMs)
    this.createdAtMs = Math.min(this.createdAtMs, loser.createdAtMs)
    this.versionFloor = Math.max(this.versionFloor, loser.versionFloor)
    this.isIdentified = true
    loser.mergedInto = this
    loser.touch(nowMs)
  }

  get newVersion(): number {
    return Math.max(this.versionFloor + 1, this.nowMs)
  }
}

/** One distinct id of the batch. */
export type IdEntry = {
  teamId: number
  distinctId: string
  key: string
  mapping: MappingRow | undefined
  person: WorkingPerson | undefined
  /** The mapping that the batch writes, before merges of the same batch; undefined when it writes none. */
  writes: { version: number; person: WorkingPerson } | undefined
}

export type WorkingGroup = {
  teamId: number
  index: number
  key: string
  row: GroupRow | undefined
  properties: JsonObject
  json: string
  createdAtMs: number
  version: number
  changed: boolean
}

export class Workspace {
  readonly ids = new Map<string, IdEntry>()
  /** In the order of first use. */
  readonly persons: WorkingPerson[] = []
  readonly groups = new Map<string, WorkingGroup>()
  readonly groupTypes = new Map<number, Map<string, number>>()
  readonly newGroupTypes: { teamId: number; type: string; index: number }[] = []
  private readonly byRow = new Map<number, WorkingPerson>()

  constructor(readonly snapshot: Snapshot) {
    for (const [teamId, types] of snapshot.groupTypes) this.groupTypes.set(teamId, new Map(types))
  }

  /** `distinctId` must be sanitised. */
  entry(teamId: number, distinctId: string): IdEntry {
    const key = idKey(teamId, distinctId)
    let entry = this.ids.get(key)
    if (!entry) {
      const mapping = this.snapshot.mappings.get(key)
      const person = mapping && !mapping.person.dead ? this.fromRow(mapping.person) : undefined
      entry = { teamId, distinctId, key, mapping, person, writes: undefined }
      this.ids.set(key, entry)
    }
    return entry
  }

  /** The living person of an id. */
  live(entry: IdEntry): WorkingPerson | undefined {
    let person = entry.person
    while (person?.mergedInto) person = person.mergedInto
    entry.person = person
    return person
  }

  /** Makes the person that an id without one is to have. */
  create(
    entry: IdEntry,
    born: { properties: JsonObject; createdAtMs: number; isIdentified: boolean },
    event: IdentityEvent,
  ): WorkingPerson {
    const uuid = personUuid(entry.teamId, entry.distinctId)
    const namesake = this.snapshot.namesakes.get(entry.key)
    if (namesake && !namesake.dead) {
      const living = this.fromRow(namesake)
      this.attach(entry, living, event.nowMs)
      return living
    }
    const person = new WorkingPerson(entry.teamId, uuid, namesake, born)
    person.creator = event
    person.touch(event.nowMs)
    this.persons.push(person)
    // An id that had a person before may have override rows from then, which must be outdone.
    if (namesake || entry.mapping) this.attach(entry, person, event.nowMs)
    else this.point(entry, person, 0)
    return person
  }

  /** Gives an id without a person to one that exists. */
  attach(entry: IdEntry, person: WorkingPerson, nowMs: number): void {
    this.point(entry, person, Math.max((entry.mapping?.version ?? 0) + 1, nowMs))
    person.touch(nowMs)
  }

  private point(entry: IdEntry, person: WorkingPerson, version: number): void {
    entry.person = person
    entry.writes = { version, person }
  }

  private fromRow(row: PersonRow): WorkingPerson {
    let person = this.byRow.get(row.id)
    if (!person) {
      person = new WorkingPerson(row.teamId, row.uuid, row, undefined)
      this.byRow.set(row.id, person)
      this.persons.push(person)
    }
    return person
  }
}
