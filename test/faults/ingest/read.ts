/** Reads all there is to prove: the raw log into a model, the output topics, and what stands in Postgres. */
import type { Sql } from '../../../src/catalog/index.ts'
import {
  ByteReader,
  DEAD_LETTERS,
  decodeRowHeader,
  EVENTS,
  GROUPS,
  OUTCOMES,
  PERSON,
  PERSON_DISTINCT_ID_OVERRIDES,
  RAW_TOPICS,
  TOPICS,
} from '../../../src/event/index.ts'
import type { Log, StoredRecord } from '../../../src/log/index.ts'
import type { Fence, LaneEnd, Receipt } from './check-receipts.ts'
import type { OutputRows } from './check-rows.ts'
import type { StateRows, StoredGroup, StoredPerson, StoredState } from './check-state.ts'
import { Model, type RawRecord } from './model.ts'

/** The model of everything that was captured, `former` raw topics first, and where its lanes end. */
export async function readRaw(
  log: Log,
  partitions: number,
  former: readonly RawRecord[],
  lost: readonly RawRecord[],
): Promise<{ model: Model; lanes: LaneEnd[] }> {
  const model = new Model()
  const ends = new Map<string, LaneEnd>()
  for (const record of lost) model.lose(record)
  for (const record of former) {
    const { logId, partition, offset } = record
    model.take(record)
    ends.set(`${logId}/${partition}`, { logId, partition, end: offset + 1 })
  }
  for (const { name: topic, logId } of await log.describe([...RAW_TOPICS]))
    for (let partition = 0; partition < partitions; partition++) {
      const { end } = await log.bounds(topic, partition)
      ends.set(`${logId}/${partition}`, { logId, partition, end })
      for (const record of await readLane(log, { topic, logId, partition })) model.take(record)
    }
  return { model, lanes: [...ends.values()] }
}

/** All records of one. */
export async function readLane(
  log: Log,
  lane: { topic: string; logId: string; partition: number },
): Promise<RawRecord[]> {
  const { topic, partition } = lane
  const all: RawRecord[] = []
  const { end } = await log.bounds(topic, partition)
  for await (const records of log.read(topic, partition, 0, end))
    all.push(...records.map((record) => ({ ...record, ...lane })))
  return all
}

export async function readOutput(log: Log): Promise<OutputRows & { state: StateRows }> {
  const all = async <R>(topic: string, read: (record: StoredRecord) => R): Promise<R[]> => {
    const rows: R[] = []
    const [known] = await log.describe([topic])
    for (let partition = 0; partition < known!.partitions; partition++) {
      const { end } = await log.bounds(topic, partition)
      for await (const records of log.read(topic, partition, 0, end)) rows.push(...records.map(read))
    }
    return rows
  }
  const row = (record: StoredRecord) => new ByteReader(record.value)
  return {
    events: await all(TOPICS.events, (record) => ({
      row: EVENTS.decode(row(record)),
      prev: decodeRowHeader(record.header).prev,
    })),
    outcomes: await all(TOPICS.outcomes, (record) => OUTCOMES.decode(row(record))),
    deadLetters: await all(TOPICS.deadLetters, (record) => DEAD_LETTERS.decode(row(record))),
    state: {
      persons: await all(TOPICS.persons, (record) => PERSON.decode(row(record))),
      overrides: await all(TOPICS.personDistinctIds, (record) =>
        PERSON_DISTINCT_ID_OVERRIDES.decode(row(record)),
      ),
      groups: await all(TOPICS.groups, (record) => GROUPS.decode(row(record))),
    },
  }
}

export function readReceipts(sql: Sql): Promise<Receipt[]> {
  return sql<Receipt[]>`
    SELECT log_id, partition, from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered, stored_rows,
      hash_sum::bigint AS hash_sum, prev_offset
    FROM receipt ORDER BY log_id, partition, from_offset`
}

export function readFences(sql: Sql): Promise<Fence[]> {
  return sql<Fence[]>`
    SELECT log_id, partition, next_offset, produced_through, last_offset FROM ingest_fence`
}

type PersonRow = StoredPerson & { id: number; is_dead: boolean; merged_into: number | null }

export async function readState(sql: Sql, teamId: number): Promise<StoredState> {
  const rows = await sql<PersonRow[]>`
    SELECT id, uuid, properties, (extract(epoch FROM created_at) * 1000)::bigint AS created_ms, is_identified,
      deleted_at IS NOT NULL AS is_dead, merged_into
    FROM person WHERE team_id = ${teamId}`
  const mappings = await sql<{ distinct_id: string; person_id: number }[]>`
    SELECT distinct_id, person_id FROM person_distinct_id WHERE team_id = ${teamId}`
  const groups = await sql<StoredGroup[]>`
    SELECT t.group_type, g.group_key, g.type_index AS index, g.properties
    FROM group_state g JOIN group_type t USING (team_id, type_index) WHERE team_id = ${teamId}`
  const [pending] = await sql<{ n: number }[]>`SELECT count(*)::int AS n FROM pending_move`
  const byId = new Map(rows.map((row) => [row.id, { ...row, ids: [] as string[] }]))
  const lostIds: string[] = []
  for (const { distinct_id: distinctId, person_id: personId } of mappings) {
    let person = byId.get(personId)
    while (person?.merged_into) person = byId.get(person.merged_into)
    if (person && !person.is_dead) person.ids.push(distinctId)
    else lostIds.push(distinctId)
  }
  const persons = [...byId.values()].filter((person) => !person.is_dead)
  return { teamId, persons, groups: [...groups], pendingMoves: pending!.n, lostIds }
}
