/** For tests of the pure rules: stored state as plain data, and who is alive after a batch was folded over it. */
import { personUuid } from '../../event/index.ts'
import { fold } from './fold.ts'
import { type Given, T0 } from './identity.fixture.ts'
import { emptySnapshot, idKey, type PersonRow, type Snapshot } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

export type Person = { ids: string[]; props: JsonObject; identified: boolean; createdAtMs: number }

export function snapshotOf(given: readonly Given[]): Snapshot {
  const snapshot = emptySnapshot()
  given.forEach(({ ids, props = {}, identified = false, createdAtMs = T0, version = 1 }, i) => {
    const person: PersonRow = {
      id: i + 1,
      teamId: 1,
      uuid: personUuid(1, ids[0]!),
      propertiesJson: JSON.stringify(props),
      timesJson: undefined,
      createdAtMs,
      isIdentified: identified,
      version,
      dead: false,
    }
    for (const id of ids) snapshot.mappings.set(idKey(1, id), { version: id === ids[0] ? 0 : 1, person })
  })
  return snapshot
}

/** Who is alive after the batch, as the write set leaves it, by the id that names the person. */
export function foldOver(given: readonly Given[], events: readonly IdentityEvent[]) {
  const snapshot = snapshotOf(given)
  const { stamps, writeSet } = fold(events, snapshot)
  const persons = new Map<string, Person>()
  const owner = new Map<string, string>()
  for (const [key, { person }] of snapshot.mappings) {
    owner.set(key.slice(2), person.uuid)
    persons.set(person.uuid, {
      ids: [],
      props: JSON.parse(person.propertiesJson!),
      identified: person.isIdentified,
      createdAtMs: person.createdAtMs,
    })
  }
  for (const write of writeSet.persons) {
    persons.set(write.uuid, {
      ids: [],
      props: JSON.parse(write.shownPropertiesJson),
      identified: write.isIdentified,
      createdAtMs: write.createdAtMs,
    })
  }
  for (const merge of writeSet.merges) {
    for (const [id, uuid] of owner) if (uuid === merge.loserUuid) owner.set(id, merge.homeUuid)
    persons.delete(merge.loserUuid)
  }
  for (const mapping of writeSet.mappings) owner.set(mapping.distinctId, mapping.personUuid)
  for (const [id, uuid] of owner) persons.get(uuid)!.ids.push(id)
  const living = [...persons].map(([uuid, person]) => ({ uuid, ...person, ids: person.ids.sort() }))
  const warnings = stamps.flatMap((stamp) => stamp.warnings.map((warning) => warning.type))
  return { stamps, writeSet, living, warnings, of: (id: string) => living.find((p) => p.ids.includes(id)) }
}

export const creator = (e: IdentityEvent) => ({ $creator_event_uuid: e.uuid })
