/** What the tests of this folder share: events by a few words, a lane with its fence, and the state read back. */
import { randomUUID } from 'node:crypto'
import type { Sql } from '../../catalog/index.ts'
import {
  ByteReader,
  encodeOutcomes,
  GROUPS,
  type GroupRow,
  PERSON,
  PERSON_DISTINCT_ID_OVERRIDES,
  type PersonDistinctIdOverrideRow,
  type PersonRow,
  personUuid,
} from '../../event/index.ts'
import type {
  BatchContext,
  BatchReceipt,
  CommittedBatch,
  Identity,
  IdentityEvent,
  JsonObject,
  StateRows,
} from './types.ts'

export const T0 = Date.UTC(2026, 0, 1)
export const MINUTE_MS = 60_000

let serial = 0

/** An event of team 1; `name` defaults to `$pageview`, times to T0. */
export function event(distinctId: string, more: Partial<IdentityEvent> = {}): IdentityEvent {
  serial++
  return {
    teamId: 1,
    distinctId,
    name: '$pageview',
    uuid: `00000000-0000-4000-8000-${serial.toString(16).padStart(12, '0')}`,
    timestampMs: T0,
    nowMs: T0,
    personProcessing: 'on',
    set: undefined,
    setOnce: undefined,
    unset: undefined,
    merge: undefined,
    groups: undefined,
    groupIdentify: undefined,
    ...more,
  }
}

export function identify(
  distinctId: string,
  otherId: string,
  more: Partial<IdentityEvent> = {},
): IdentityEvent {
  return event(distinctId, { name: '$identify', merge: { kind: 'identify', otherId }, ...more })
}

export function alias(distinctId: string, otherId: string, more: Partial<IdentityEvent> = {}): IdentityEvent {
  return event(distinctId, { name: '$create_alias', merge: { kind: 'alias', otherId }, ...more })
}

export function dangerous(
  distinctId: string,
  otherId: string,
  more: Partial<IdentityEvent> = {},
): IdentityEvent {
  return event(distinctId, { name: '$merge_dangerously', merge: { kind: 'dangerous', otherId }, ...more })
}

export function plainReceipt(stored: number): BatchReceipt {
  return {
    checksum: 1,
    outcomes: encodeOutcomes(Array.from({ length: Math.max(stored, 1) }, () => ({ code: 0, rows: 1 }))),
    stored,
    duplicate: 0,
    dropped: 0,
    deadLettered: 0,
    storedRows: stored,
    hashSum: 0,
    prev: undefined,
    last: undefined,
    configVersion: 1,
    warnings: [],
  }
}

/** One partition of one topic, with its fence in Postgres. */
export class Lane {
  next = 0
  /** Of each batch. */
  context: BatchContext = {}
  private constructor(
    readonly sql: Sql,
    readonly logId: string,
    readonly partition: number,
  ) {}

  static async open(sql: Sql, partition = 0): Promise<Lane> {
    const lane = new Lane(sql, randomUUID(), partition)
    await sql`
      INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
      VALUES (${lane.logId}, ${partition}, 'raw_events', 0, 0)`
    return lane
  }

  position(size: number, fromOffset = this.next) {
    return {
      logId: this.logId,
      partition: this.partition,
      topic: 'raw_events',
      fromOffset,
      toOffset: fromOffset + Math.max(size, 1),
      producedThrough: fromOffset,
    }
  }

  /** Commits the next batch of this lane. */
  async commit(identity: Identity, events: IdentityEvent[]): Promise<CommittedBatch> {
    const position = this.position(events.length)
    const committed = await identity.commit(events, position, () => plainReceipt(events.length), this.context)
    this.next = position.toOffset
    return committed
  }
}

export type StoredPerson = {
  uuid: string
  properties: JsonObject
  created_ms: number
  is_identified: boolean
  version: number
  ids: string[]
}

/** The living persons of a team with the ids that lead to them, merges followed; ordered by uuid. */
export async function livingPersons(sql: Sql, teamId = 1): Promise<StoredPerson[]> {
  return sql<StoredPerson[]>`
    WITH RECURSIVE lead AS (
      SELECT m.distinct_id, p.id, p.merged_into FROM person_distinct_id m JOIN person p ON p.id = m.person_id
      WHERE m.team_id = ${teamId}
      UNION ALL
      SELECT l.distinct_id, p.id, p.merged_into FROM lead l JOIN person p ON p.id = l.merged_into
    )
    SELECT p.uuid, p.properties, (extract(epoch FROM p.created_at) * 1000)::bigint AS created_ms, p.is_identified,
      p.version,
      coalesce((SELECT jsonb_agg(l.distinct_id ORDER BY l.distinct_id) FROM lead l WHERE l.id = p.id), '[]') AS ids
    FROM person p WHERE p.team_id = ${teamId} AND p.deleted_at IS NULL ORDER BY p.uuid`
}

export type Given = {
  /** The first names the person. */
  ids: string[]
  props?: JsonObject
  identified?: boolean
  createdAtMs?: number
  version?: number
}

/** Stores persons of team 1 as if earlier batches had made them. */
export async function store(sql: Sql, given: readonly Given[]): Promise<void> {
  for (const { ids, props = {}, identified = false, createdAtMs = T0, version = 1 } of given) {
    const json = JSON.stringify(props)
    await sql`
      WITH born AS (
        INSERT INTO person (team_id, uuid, properties, properties_bytes, created_at, is_identified, version)
        VALUES (1, ${personUuid(1, ids[0]!)}, ${json}::text::jsonb, ${Buffer.byteLength(json)},
          to_timestamp(${createdAtMs / 1000}::float8), ${identified}, ${version})
        RETURNING id
      )
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id, version)
      SELECT 1, d.id, born.id, (d.n > 1)::int
      FROM born, jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb) WITH ORDINALITY AS d(id, n)`
  }
}

export async function mappingVersion(sql: Sql, distinctId: string, teamId = 1): Promise<number | undefined> {
  const [row] = await sql<{ version: number }[]>`
    SELECT version FROM person_distinct_id WHERE team_id = ${teamId} AND distinct_id = ${distinctId}`
  return row?.version
}

export async function wipe(sql: Sql): Promise<void> {
  await sql`TRUNCATE person, person_distinct_id, group_type, group_state, ingest_fence, receipt, pending_move`
}

export function decodeRows(rows: StateRows): {
  persons: PersonRow[]
  overrides: PersonDistinctIdOverrideRow[]
  groups: GroupRow[]
} {
  return {
    persons: rows.persons.map((bytes) => PERSON.decode(new ByteReader(bytes))),
    overrides: rows.personDistinctIds.map((bytes) =>
      PERSON_DISTINCT_ID_OVERRIDES.decode(new ByteReader(bytes)),
    ),
    groups: rows.groups.map((bytes) => GROUPS.decode(new ByteReader(bytes))),
  }
}
