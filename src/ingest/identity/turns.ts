/**
 * Batches of one process that change the same persons take turns, in memory and for economy alone: what Postgres checks
 * stays what decides. Without it two lanes that write to one person both fold what they read, the second is refused, and
 * all its work is done again.
 *
 *   asked (before the read) ──▶ waits while a write that touches its persons is under way
 *                           ──▶ brings what it has read up to what those writes left ──▶ folds, and is under way itself
 *
 * In: what a batch wants, what it has read, and the writes of the others from their fold to the answer of Postgres. Out:
 * the same snapshot, fresh. A person whose version is the one that a write started from is what that write left; ids that
 * a write has given a person, or whose person it has merged away, are read again: a few, in one query. Whatever does not
 * fit together so was changed by another process, which the checks of the write find.
 *
 * What must hold: nobody waits here who holds a lock in Postgres, so no circle can come about; between the last look at
 * the others and the own write nothing else runs; a turn comes within TURN_MS_MAX, or the batch goes to Postgres without
 * one, the locked way, which has time-outs of its own: a write may hang with its connection for as long as it likes.
 * Cost: a look-up per person that a write under way changes, and no query where nobody met.
 */
import { endsWithin } from '../../platform/index.ts'
import { ApplyConflict } from './apply.ts'
import { adopt, idKey, isFull, type PersonRow, type Snapshot } from './snapshot.ts'
import { onlyIds, type Wanted } from './wanted.ts'
import type { PersonWrite, WriteSet } from './write-set.ts'

/** Writes that are over and kept for the batches that began to read before their end, and the text that they hold. */
const KEPT_MAX = 16
const KEPT_UNITS_MAX = 16 * 2 ** 20
/** As long as the locked ways wait for a lock, and much longer than many writes in front of a batch take. */
const TURN_MS_MAX = 5_000

/** What a batch changes, from its fold to the answer of Postgres. */
export class Write {
  /** By id: persons that it changes. */
  readonly persons = new Map<number, PersonWrite>()
  /** Persons that it merges into others. */
  readonly gone = new Set<number>()
  /** Versions by `idKey`: ids that it gives a person. */
  readonly ids = new Map<string, number>()
  /** Persons that it leaves as they are, and that a decision of its rests on: it is refused when another changes them. */
  readonly checked = new Set<number>()
  /** Of the properties in it. */
  units = 0
  readonly settled: Promise<void>
  private settle!: () => void

  constructor(
    private readonly ended: (write: Write, done: boolean) => void,
    /** Persons that it locks before it is known what it changes. */
    private readonly reserved: ReadonlySet<number>,
  ) {
    this.settled = new Promise((resolve) => {
      this.settle = resolve
    })
  }

  holds({ checks, persons, merges, mappings }: WriteSet): void {
    for (const person of persons) {
      if (person.id === undefined) continue
      this.persons.set(person.id, person)
      this.units += person.shownPropertiesJson.length
    }
    for (const { loserId } of merges) {
      if (loserId === undefined) continue
      this.persons.delete(loserId)
      this.gone.add(loserId)
    }
    for (const { id } of checks) if (!this.persons.has(id) && !this.gone.has(id)) this.checked.add(id)
    for (const { teamId, distinctId, version } of mappings) this.ids.set(idKey(teamId, distinctId), version)
  }

  touches({ ids }: Wanted, { persons }: Snapshot): boolean {
    for (const id of this.persons.keys()) if (isFull(persons.get(id))) return true
    for (const id of this.gone) if (isFull(persons.get(id))) return true
    for (const id of this.checked) if (isFull(persons.get(id))) return true
    for (const id of this.reserved) if (isFull(persons.get(id))) return true
    for (const key of this.ids.keys()) if (ids.full[ids.places.get(key) ?? -1]) return true
    return false
  }

  /** Under way as long as `work` is; when that fails, nothing of it is in Postgres, or nobody knows. */
  async during<T>(work: Promise<T>): Promise<T> {
    let done = false
    try {
      const result = await work
      done = true
      return result
    } finally {
      this.ended(this, done)
      this.settle()
    }
  }
}

export class Turns {
  private readonly running = new Set<Write>()
  private done: { write: Write; number: number }[] = []
  private number = 0
  /** The number at which each batch that has not had its turn began to read. */
  private readonly asked = new Map<Turn, number>()

  constructor(readonly msMax = TURN_MS_MAX) {}

  /** To be called before the read. */
  ask(wanted: Wanted): Turn {
    const turn = new Turn(this, wanted)
    this.mark(turn)
    return turn
  }

  /** `turn` has dealt with all writes that are over. */
  mark(turn: Turn): void {
    this.asked.set(turn, this.number)
  }

  begin(reserved: ReadonlySet<number>): Write {
    const write = new Write((ended, done) => this.ended(ended, done), reserved)
    this.running.add(write)
    return write
  }

  /** The first write under way that touches what the batch has read. */
  inTheWay(wanted: Wanted, snapshot: Snapshot): Write | undefined {
    for (const write of this.running) if (write.touches(wanted, snapshot)) return write
    return undefined
  }

  /** Oldest first: what may have ended after the read of `turn` began. */
  since(turn: Turn): Write[] {
    const from = this.asked.get(turn) ?? this.number
    return this.done.filter(({ number }) => number >= from).map(({ write }) => write)
  }

  left(turn: Turn): void {
    this.asked.delete(turn)
    const oldest = Math.min(...this.asked.values())
    this.done = this.done.filter(({ number }) => number >= oldest)
  }

  private ended(write: Write, done: boolean): void {
    this.running.delete(write)
    if (!done || this.asked.size === 0) return
    this.done.push({ write, number: this.number++ })
    // Who needed one that is gone is refused by Postgres, and goes the locked way.
    let units = this.done.reduce((sum, kept) => sum + kept.write.units, 0)
    while (this.done.length > KEPT_MAX || units > KEPT_UNITS_MAX) units -= this.done.shift()!.write.units
  }
}

/** One batch, from its read to its fold. */
export class Turn {
  constructor(
    private readonly turns: Turns,
    private readonly wanted: Wanted,
  ) {}

  /**
   * Runs `work` as soon as no other batch stands in the way, with `snapshot` as they have left it. `waited` is told the
   * ms. Throws ApplyConflict when that takes too long, or what is to be read again was changed by another process.
   */
  async take<T>(
    snapshot: Snapshot,
    readAgain: (wanted: Wanted) => Promise<Snapshot>,
    work: () => Promise<T>,
    waited: (ms: number) => void,
  ): Promise<T> {
    const until = performance.now() + this.turns.msMax
    for (;;) {
      const from = performance.now()
      const before = this.turns.inTheWay(this.wanted, snapshot)
      if (before) {
        const over = await endsWithin(before.settled, until - from)
        waited(performance.now() - from)
        if (!over) throw new ApplyConflict(`a write to the same persons goes on after ${this.turns.msMax} ms`)
        continue
      }
      this.freshen(snapshot)
      const stale = this.stalePlaces(snapshot)
      if (stale.size === 0) break
      if (from >= until) throw new ApplyConflict(`ids were read again for ${this.turns.msMax} ms`)
      this.turns.mark(this)
      const again = await readAgain(onlyIds(this.wanted, stale))
      this.freshen(snapshot)
      if (!adopt(snapshot, again))
        throw new ApplyConflict('persons changed while ids of theirs were read again')
    }
    // No await from the last look on: `work` begins the write that others see.
    this.leave()
    return work()
  }

  leave(): void {
    this.turns.left(this)
  }

  private freshen({ persons }: Snapshot): void {
    for (const write of this.turns.since(this)) {
      for (const [id, after] of write.persons) {
        const row = persons.get(id)
        if (row && row.version === after.expectedVersion) bringUp(row, after)
      }
    }
  }

  /** Places of ids of which a write that is over says something else than the snapshot. */
  private stalePlaces({ mappings, persons }: Snapshot): Set<number> {
    const { places, full } = this.wanted.ids
    const stale = new Set<number>()
    const gone = new Set<PersonRow>()
    for (const write of this.turns.since(this)) {
      for (const [key, version] of write.ids) {
        const place = places.get(key)
        if (place === undefined || !full[place]) continue
        const mapping = mappings.get(key)
        if (!mapping || mapping.version < version) stale.add(place)
      }
      for (const id of write.gone) {
        const row = persons.get(id)
        if (row && isFull(row)) gone.add(row)
      }
    }
    if (gone.size === 0) return stale
    for (const [key, { person }] of mappings) {
      if (!gone.has(person)) continue
      const place = places.get(key)
      // Visitors are read only with their ids of now.
      if (place === undefined) throw new ApplyConflict('the person of a cookieless visitor was merged away')
      stale.add(place)
    }
    return stale
  }
}

function bringUp(row: PersonRow, after: PersonWrite): void {
  if (row.propertiesJson !== undefined) row.propertiesJson = after.shownPropertiesJson
  if (after.timesJson !== undefined) row.timesJson = after.timesJson === '{}' ? undefined : after.timesJson
  row.createdAtMs = after.createdAtMs
  row.isIdentified = after.isIdentified
  row.version = after.version
  row.dead = false
}
