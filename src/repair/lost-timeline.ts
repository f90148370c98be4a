/**
 * What was produced that Postgres does not know, or not to the end: what had been decided about each raw offset, which
 * state rows were sent, which projects and group types were in use. In: offsets per raw log from which on that is asked.
 * Out: plain data for `rewind.ts` and `gap.ts`. The row topics tell, and ClickHouse of what they no longer hold
 * (loaded-rows.ts). Changes nothing. Memory: two numbers per offset found, a key per changed person.
 */
import type { Sql } from '../catalog/index.ts'
import {
  ByteReader,
  decodeRowHeader,
  EVENTS,
  GROUPS,
  OUTCOMES,
  type OutcomeCode,
  PERSON,
  PERSON_DISTINCT_ID_OVERRIDES,
  type RowTopic,
  STORED,
  TOPICS,
  writerPartition,
} from '../event/index.ts'
import { stretchesSince } from '../ingest/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { codeOf, type LoadedRowTaker, type RowPlace, takeLoadedRows } from './loaded-rows.ts'
import { loadedStateAhead } from './loaded-state.ts'
import type { ListedState } from './lost-receipts.ts'

export type LostTimeline = {
  /** Per raw log id: offset → what had been decided, for offsets at or above its fence. */
  decided: Map<string, Map<number, OutcomeCode>>
  /** Per raw log id: offset → its project, where one is known. */
  projects: Map<string, Map<number, number>>
  /** Newest version that was sent of each. */
  state: ListedState[]
  teamIds: Set<number>
  /** Group types as the rows use them, where that can be told: `team` → type → index. */
  groupTypes: Map<number, Map<string, number>>
  /** `log id/partition/offset/sub` of rows that ClickHouse refused, which are dead letters now. */
  buried: Set<string>
}

type Deps = { sql: Sql; log: Log; warehouse: Warehouse; partitions: number }

const STATE_TOPICS = [TOPICS.persons, TOPICS.personDistinctIds, TOPICS.groups] as const

/**
 * `fences`: per raw log id the offset of partition number `partition` from which on it is asked. `logId`: only one raw
 * log is asked for, from its own newest batch on, that batch included.
 */
export async function readLostTimeline(
  deps: Deps,
  partition: number,
  fences: ReadonlyMap<string, number>,
  logId?: string,
): Promise<LostTimeline> {
  const found = new Collector(fences)
  let cut = false
  const read = async (topics: readonly RowTopic[], take: (record: StoredRecord, topic: RowTopic) => void) => {
    cut = false
    for (const { topic, from, to, wanted } of await stretchesSince(deps, partition, topics, logId)) {
      cut ||= wanted < from
      for await (const records of deps.log.read(topic, partition, from, to))
        for (const record of records) take(record, topic)
    }
  }
  await read([TOPICS.events, TOPICS.outcomes], (record, topic) => found.takeDecision(record, topic))
  // These are few: rows that ClickHouse refused.
  const loads = writerPartition(TOPICS.outcomes, 'load', partition, deps.partitions)
  const { start, end } = await deps.log.bounds(TOPICS.outcomes, loads)
  for await (const records of deps.log.read(TOPICS.outcomes, loads, start, end))
    for (const record of records) found.takeBurial(record)
  for (const [id, from] of fences) await takeLoadedRows(deps.warehouse, { logId: id, partition, from }, found)
  // State may have changed only where something was decided.
  if (!found.isEmpty) {
    await read(STATE_TOPICS, (record, topic) => found.takeState(record, topic))
    if (cut) for await (const one of loadedStateAhead(deps)) found.list(one)
  }
  return found.timeline()
}

class Collector implements LoadedRowTaker {
  private readonly decided = new Map<string, Map<number, OutcomeCode>>()
  private readonly projects = new Map<string, Map<number, number>>()
  /** `log id/offset` of those of which a row other than the first was stored: they stay stored if the first was not. */
  private readonly several = new Set<string>()
  private readonly state = new Map<string, ListedState>()
  private readonly teamIds = new Set<number>()
  private readonly groupTypes = new Map<number, Map<string, number>>()
  private readonly buried = new Set<string>()

  constructor(private readonly fences: ReadonlyMap<string, number>) {}

  get isEmpty(): boolean {
    return this.decided.size === 0
  }

  timeline(): LostTimeline {
    const { decided, projects, teamIds, groupTypes, buried } = this
    return { decided, projects, state: [...this.state.values()], teamIds, groupTypes, buried }
  }

  takeDecision({ header, value }: StoredRecord, topic: RowTopic): void {
    const { source, teamId } = decodeRowHeader(header)
    const fence = this.fences.get(source.logId)
    if (fence === undefined || source.offset < fence) return
    if (topic === TOPICS.events) {
      this.decide(source, teamId, STORED)
      this.learnGroupTypes(teamId, value)
    } else this.decide(source, teamId, codeOf(OUTCOMES.decode(new ByteReader(value))))
  }

  takeLoaded(row: RowPlace, teamId: number, code: OutcomeCode): void {
    this.decide(row, teamId, code)
  }

  takeGroupType(teamId: number, type: string, index: number): void {
    this.typesOf(teamId).set(type, index)
  }

  /** Of the role load: a row that was stored by ingest, and refused by ClickHouse. */
  takeBurial({ header, value }: StoredRecord): void {
    const { source, teamId } = decodeRowHeader(header)
    const { logId, partition, offset, sub } = source
    this.buried.add(`${logId}/${partition}/${offset}/${sub}`)
    const fence = this.fences.get(logId)
    if (fence === undefined || offset < fence) return
    this.decide(source, teamId, codeOf(OUTCOMES.decode(new ByteReader(value))))
  }

  takeState({ value }: StoredRecord, topic: RowTopic): void {
    const reader = new ByteReader(value)
    if (topic === TOPICS.persons) {
      const { team_id, id, version } = PERSON.decode(reader)
      this.list({ kind: 'person', team: team_id, index: 0, key: id, above: version })
    } else if (topic === TOPICS.personDistinctIds) {
      const { team_id, distinct_id, version } = PERSON_DISTINCT_ID_OVERRIDES.decode(reader)
      this.list({ kind: 'mapping', team: team_id, index: 0, key: distinct_id, above: version })
    } else {
      const { team_id, group_type_index, group_key, _version } = GROUPS.decode(reader)
      this.list({ kind: 'group', team: team_id, index: group_type_index, key: group_key, above: _version })
    }
  }

  list(one: ListedState): void {
    const key = JSON.stringify([one.kind, one.team, one.index, one.key])
    const known = this.state.get(key)
    if (!known || known.above < one.above) this.state.set(key, one)
  }

  /** `events` are taken first. */
  private decide({ logId, offset, sub }: RowPlace, teamId: number, code: OutcomeCode): void {
    const decided = this.decided.get(logId) ?? new Map<number, OutcomeCode>()
    this.decided.set(logId, decided)
    const isStored = code === STORED
    if (sub > 0 && isStored) this.several.add(`${logId}/${offset}`)
    if (isStored || (sub === 0 && !this.several.has(`${logId}/${offset}`)) || !decided.has(offset))
      decided.set(offset, code)
    if (teamId <= 0) return
    this.teamIds.add(teamId)
    const projects = this.projects.get(logId) ?? new Map<number, number>()
    this.projects.set(logId, projects)
    projects.set(offset, teamId)
  }

  /** `$groups` names types and keys, `$group_<index>` the same keys by index. */
  private learnGroupTypes(teamId: number, value: Uint8Array): void {
    if (Buffer.from(value.buffer, value.byteOffset, value.byteLength).indexOf('"$groups"') < 0) return
    const properties = JSON.parse(EVENTS.decode(new ByteReader(value)).properties) as Record<string, unknown>
    const groups = properties.$groups
    if (typeof groups !== 'object' || groups === null) return
    const known = this.typesOf(teamId)
    for (const [type, key] of Object.entries(groups)) {
      const indexes = [0, 1, 2, 3, 4].filter((index) => properties[`$group_${index}`] === String(key))
      if (indexes.length === 1) known.set(type, indexes[0]!)
    }
  }

  private typesOf(teamId: number): Map<string, number> {
    const known = this.groupTypes.get(teamId) ?? new Map<string, number>()
    this.groupTypes.set(teamId, known)
    return known
  }
}
