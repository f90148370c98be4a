/**
 * Persons, their ids and groups: those in Postgres are the model's, and the state topics alone, where the highest
 * version of each wins, tell the same.
 */
import {
  type GroupRow,
  type PersonDistinctIdOverrideRow,
  type PersonRow,
  personUuid,
} from '../../../src/event/index.ts'
import type { Findings } from './findings.ts'
import type { Model, ModelPerson, Properties } from './model.ts'

export type StoredPerson = {
  uuid: string
  properties: Record<string, unknown>
  created_ms: number
  is_identified: boolean
  /** All that lead to it, pointers of merges followed. */
  ids: string[]
}

export type StoredGroup = { group_type: string; group_key: string; index: number; properties: Properties }

export type StoredState = {
  teamId: number
  /** Living ones. */
  persons: StoredPerson[]
  groups: StoredGroup[]
  /** Merges whose ids have not all moved yet, and ids that lead to nobody alive. */
  pendingMoves: number
  lostIds: string[]
}

/** Everything that the topics hold, in any order. */
export type StateRows = {
  persons: PersonRow[]
  overrides: PersonDistinctIdOverrideRow[]
  groups: GroupRow[]
}

/** What counts of it, and is asked of the tables. */
export type ToldRows = {
  persons: Pick<PersonRow, 'id' | 'version' | 'is_deleted' | 'properties'>[]
  overrides: Pick<PersonDistinctIdOverrideRow, 'distinct_id' | 'person_id' | 'version'>[]
  groups: Pick<GroupRow, 'group_type_index' | 'group_key' | 'group_properties' | '_version'>[]
}

export function checkState(model: Model, state: StoredState, told: StateRows, findings: Findings): void {
  checkPersons(model, state, findings)
  checkGroups(model, state, findings)
  checkTold('topic', state, told, findings)
  findings.expect(state.pendingMoves === 0, 'ids are still to be moved', () => String(state.pendingMoves))
  for (const id of state.lostIds) findings.note('an id leads to nobody alive', id)
}

function checkPersons(model: Model, { teamId, persons }: StoredState, findings: Findings): void {
  const byId = new Map<string, StoredPerson>()
  for (const person of persons)
    for (const id of person.ids) {
      findings.expect(!byId.has(id), 'an id leads to two persons', () => id)
      byId.set(id, person)
    }
  const wanted = model.persons()
  findings.expect(
    wanted.length === persons.length,
    'another number of persons',
    () => `${persons.length} instead of ${wanted.length}`,
  )
  for (const person of wanted) {
    const [id = ''] = person.ids
    const stored = byId.get(id)
    if (stored) comparePerson(teamId, stored, person, findings)
    else findings.note('an id has no person', id)
  }
}

function comparePerson(teamId: number, stored: StoredPerson, wanted: ModelPerson, findings: Findings): void {
  const { uuid } = stored
  const ids = [...wanted.ids]
  const { $creator_event_uuid: creator, shared, ...properties } = stored.properties
  const difference = () =>
    `${uuid} (${JSON.stringify(stored)} instead of ${JSON.stringify({ ...wanted, ids, shared: [...wanted.shared], eventUuids: undefined })})`
  findings.expect(
    Bun.deepEquals(stored.ids.toSorted(), ids.toSorted()),
    'a person with other ids',
    difference,
  )
  findings.expect(Bun.deepEquals(properties, wanted.properties), 'a person with other properties', difference)
  const isLastWord = shared === undefined ? wanted.shared.size === 0 : wanted.shared.has(shared)
  findings.expect(isLastWord, 'a person with a word that was not the last', difference)
  findings.expect(wanted.eventUuids.has(String(creator)), 'a person of an unknown creator', difference)
  findings.expect(stored.created_ms === wanted.createdAtMs, 'a person of another time', difference)
  findings.expect(stored.is_identified === wanted.isIdentified, 'a person identified or not', difference)
  findings.expect(
    ids.some((id) => personUuid(teamId, id) === uuid),
    'a person named after nobody of it',
    difference,
  )
}

function checkGroups(model: Model, { groups }: StoredState, findings: Findings): void {
  const stored = new Map(groups.map((group) => [`${group.group_type}/${group.group_key}`, group.properties]))
  findings.expect(stored.size === model.groups.size, 'another number of groups', () => String(stored.size))
  for (const [group, properties] of model.groups)
    findings.expect(
      Bun.deepEquals(stored.get(group), properties),
      'a group with other properties',
      () => `${group} (${JSON.stringify(stored.get(group))} instead of ${JSON.stringify(properties)})`,
    )
}

/** `told` by the topics, or by the tables in ClickHouse. */
export function checkTold(
  where: 'topic' | 'table',
  state: StoredState,
  told: ToldRows,
  findings: Findings,
): void {
  const { teamId } = state
  const persons = newest(told.persons, (row) => row.id, 'version')
  const overrides = newest(told.overrides, (row) => row.distinct_id, 'version')
  const groups = newest(told.groups, (row) => `${row.group_type_index}/${row.group_key}`, '_version')
  for (const { uuid, properties, ids } of state.persons) {
    const row = persons.get(uuid)
    const isSame = row?.is_deleted === 0 && Bun.deepEquals(JSON.parse(row.properties), properties)
    findings.expect(
      isSame,
      `${where} persons tells of another person`,
      () => `${uuid} (${JSON.stringify(row)})`,
    )
    for (const id of ids)
      findings.expect(
        (overrides.get(id)?.person_id ?? personUuid(teamId, id)) === uuid,
        `${where} person_distinct_ids tells of another person`,
        () => `${id} (${overrides.get(id)?.person_id} instead of ${uuid})`,
      )
  }
  const living = new Set(state.persons.map(({ uuid }) => uuid))
  for (const [uuid, row] of persons)
    findings.expect(row.is_deleted === 1 || living.has(uuid), `${where} persons keeps one alive`, () => uuid)
  for (const { index, group_key: key, properties } of state.groups) {
    const row = groups.get(`${index}/${key}`)
    const isSame = row !== undefined && Bun.deepEquals(JSON.parse(row.group_properties), properties)
    findings.expect(isSame, `${where} groups tells of another group`, () => `${index}/${key}`)
  }
}

function newest<R>(rows: readonly R[], key: (row: R) => string, version: keyof R): Map<string, R> {
  const map = new Map<string, R>()
  for (const row of rows) {
    const before = map.get(key(row))
    if (!before || Number(row[version]) > Number(before[version])) map.set(key(row), row)
  }
  return map
}
