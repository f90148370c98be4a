/**
 * The state of a batch while it is folded: persons by id, with what changed, over the snapshot. Single-threaded and
 * thrown away after the batch. A person's properties are parsed at the first event that says something about them.
 *
 * A WorkingPerson is alive until `mergedInto` is set; ids find the survivor by following it.
 */
import { personUuid } from '../../event/index.ts'
import { BatchTooLarge } from './errors.ts'
import { initialTimes, type KeyTimes, mergedByTime, parseTimes, timesJson } from './event-time.ts'
import type { IdentityOptions, OptionsOf } from './options.ts'
import { initialProperties, mergedProperties } from './properties.ts'
import { type GroupRow, idKey, type MappingRow, type PersonRow, type Snapshot } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

/**
 * Units of text that the stamps of a batch may hold beside what was read: every event that changes a large person has a
 * text of its own, and 5,000 of them were gigabytes.
 */
export const TEXT_UNITS_MAX = 64 * 2 ** 20

/** Counts the text that a batch makes. */
export class TextBudget {
  private used = 0
  constructor(private readonly max: number) {}

  take(text: string): string {
    this.used += text.length
    if (this.used > this.max && this.used > text.length)
      throw new BatchTooLarge(`the persons and groups of the batch come to over ${this.max} units of text`)
    return text
  }
}

export type Born = { isIdentified: boolean; event: IdentityEvent }

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
  private parsedTimes: KeyTimes | undefined

  constructor(
    readonly teamId: number,
    readonly uuid: string,
    readonly row: PersonRow | undefined,
    born: Born | undefined,
    readonly options: IdentityOptions,
    private readonly budget: TextBudget,
  ) {
    this.versionFloor = row?.version ?? 0
    if (!born) {
      this.createdAtMs = row!.createdAtMs
      this.isIdentified = row!.isIdentified
      this.text = row!.propertiesJson
      return
    }
    this.createdAtMs = born.event.timestampMs
    this.isIdentified = born.isIdentified
    this.creator = born.event
    this.parsed = initialProperties(born.event)
    if (this.byTime) this.parsedTimes = initialTimes(born.event, this.parsed)
    this.propertiesChanged = true
    this.touch(born.event.nowMs)
  }

  get byTime(): boolean {
    return this.options.propertyOrder === 'eventTime'
  }

  get properties(): JsonObject {
    if (this.parsed === undefined) {
      // Nobody but a personless event may have asked for this person, and those look at no property.
      if (this.text === undefined) throw new TypeError(`the properties of person ${this.uuid} were not read`)
      this.parsed = JSON.parse(this.text) as JsonObject
    }
    return this.parsed
  }

  /** The properties as JSON; the stored text as long as nothing changed. */
  get json(): string {
    this.text ??= this.budget.take(JSON.stringify(this.properties))
    return this.text
  }

  /** When each property was written; only where the project orders them so. */
  get times(): KeyTimes {
    this.parsedTimes ??= parseTimes(this.row?.timesJson)
    return this.parsedTimes
  }

  timesOf(keys: readonly string[]): KeyTimes {
    const times: KeyTimes = new Map()
    for (const key of keys) {
      const time = this.times.get(key)
      if (time !== undefined) times.set(key, time)
    }
    return times
  }

  /** What is to be stored; undefined when it stays. A project that no longer orders by time has none. */
  get timesToStore(): string | undefined {
    if (this.byTime) return this.parsedTimes && timesJson(this.parsedTimes, this.properties)
    return this.row?.timesJson === undefined ? undefined : '{}'
  }

  /** After `keys` were left out, or taken back to what was at `times` before. */
  forgetTimes(keys: readonly string[], times: KeyTimes | undefined): void {
    if (!this.byTime) return
    for (const key of keys) {
      const time = Object.hasOwn(this.properties, key) ? times?.get(key) : undefined
      if (time === undefined) this.times.delete(key)
      else this.times.set(key, time)
    }
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
    if (this.byTime) {
      const merged = mergedByTime(this, loser)
      this.parsed = merged.properties
      this.parsedTimes = merged.times
    } else this.parsed = mergedProperties(this.properties, loser.properties)
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
  readonly budget: TextBudget
  private readonly byRow = new Map<number, WorkingPerson>()
  private readonly options = new Map<number, IdentityOptions>()

  constructor(
    readonly snapshot: Snapshot,
    private readonly optionsOf: OptionsOf,
    textUnitsMax = TEXT_UNITS_MAX,
  ) {
    this.budget = new TextBudget(textUnitsMax)
    for (const [teamId, types] of snapshot.groupTypes) this.groupTypes.set(teamId, new Map(types))
  }

  /** One answer for the whole batch, also when the project's settings change meanwhile. */
  optionsFor(teamId: number): IdentityOptions {
    let options = this.options.get(teamId)
    if (!options) {
      options = this.optionsOf(teamId)
      this.options.set(teamId, options)
    }
    return options
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

  /** Makes the person that an id without one is to have; what the event sets is in it then. */
  create(entry: IdEntry, born: Born): WorkingPerson {
    const { event } = born
    const namesake = this.snapshot.namesakes.get(entry.key)
    if (namesake && !namesake.dead) {
      const living = this.fromRow(namesake)
      this.attach(entry, living, event.nowMs)
      return living
    }
    const uuid = personUuid(entry.teamId, entry.distinctId)
    const options = this.optionsFor(entry.teamId)
    const person = new WorkingPerson(entry.teamId, uuid, namesake, born, options, this.budget)
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
      const options = this.optionsFor(row.teamId)
      person = new WorkingPerson(row.teamId, row.uuid, row, undefined, options, this.budget)
      this.byRow.set(row.id, person)
      this.persons.push(person)
    }
    return person
  }
}
