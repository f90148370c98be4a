/**
 * Writes a batch: fence, persons, mappings, groups and receipt in one statement (0007_identity_options.sql), and its
 * cookieless visitors in the same one (0008_cookieless.sql), or nothing.
 * Throws ApplyConflict when something that the fold read has moved since, HR_INGEST_FENCE when the fence has.
 */
import type { Sql, Transaction } from '../../catalog/index.ts'
import { failpoint } from '../../platform/index.ts'
import { type VisitorWrite, visitorWritesJson } from '../cookieless/index.ts'
import { identityError } from './errors.ts'
import type { BatchPosition, BatchReceipt, Outbox } from './types.ts'
import type { GroupWrite, MappingWrite, MergeWrite, PersonWrite, WriteSet } from './write-set.ts'

/** A merge moves this many distinct ids at once; more are moved later, and reads follow the pointer until then. */
export const MOVE_MAX = 100

/** Something moved between read and write: read, fold and apply again. */
export class ApplyConflict extends Error {
  override readonly name = 'ApplyConflict'
}

/** An id that moved with the merge of its person. */
export type MovedMapping = { teamId: number; distinctId: string; personUuid: string; version: number }

export async function applyBatch(
  sql: Sql | Transaction,
  position: BatchPosition,
  receipt: BatchReceipt,
  writeSet: WriteSet,
  visitors: readonly VisitorWrite[] = [],
): Promise<MovedMapping[]> {
  const inserts = writeSet.persons.filter((person) => person.id === undefined)
  const updates = writeSet.persons.filter((person) => person.id !== undefined)
  const { checks } = writeSet
  const visitorsJson = visitorWritesJson(visitors)
  try {
    failpoint('apply_sent')
    // OFFSET 0: the inner call is done before the outer one, whose locks come after its own.
    const [row] = await sql<{ moved: [number, string, string, number][] }[]>`
      SELECT b.moved ${visitorsJson === null ? sql`` : sql`, apply_visitors(${visitorsJson}::text::jsonb)`}
      FROM (SELECT apply_batch(
        ${headJson(position, receipt, outboxOf(writeSet))}::text::jsonb, ${receipt.outcomes}::bytea,
        ${`{${checks.map((check) => check.id).join()}}`}::text::bigint[],
        ${`{${checks.map((check) => check.version).join()}}`}::text::bigint[],
        ${`{${checks.map((check) => check.dead).join()}}`}::text::boolean[],
        ${listJson(updates, updateJson)}::text::jsonb, ${lines(updates, (person) => person.propertiesJson ?? '')}::text,
        ${listJson(inserts, insertJson)}::text::jsonb, ${lines(inserts, (person) => person.shownPropertiesJson)}::text,
        ${changesJson(writeSet)}::text::jsonb, ${MOVE_MAX}::int
      ) AS moved OFFSET 0) b`
    return row!.moved.map(([teamId, distinctId, personUuid, version]) => ({
      teamId,
      distinctId,
      personUuid,
      version,
    }))
  } catch (error) {
    const code = (error as { code?: unknown }).code
    const message = (error as Error).message
    if (code === 'HR002') throw new ApplyConflict(message, { cause: error })
    if (code === 'HR001') throw identityError('HR_INGEST_FENCE', message, error)
    throw error
  }
}

/** What must reach the log. Ids that move with a merge are added by the statement itself. */
function outboxOf(writeSet: WriteSet): Outbox {
  const persons: [number, string][] = []
  const stored = new Set<string>()
  for (const { teamId, uuid } of writeSet.persons) {
    persons.push([teamId, uuid])
    stored.add(`${teamId}:${uuid}`)
  }
  for (const { teamId, loserUuid } of writeSet.merges) {
    if (!stored.has(`${teamId}:${loserUuid}`)) persons.push([teamId, loserUuid])
  }
  return {
    persons,
    mappings: writeSet.mappings
      .filter((mapping) => mapping.version > 0)
      .map((mapping) => [mapping.teamId, mapping.distinctId]),
    groups: writeSet.groups.map((group) => [group.teamId, group.index, group.key]),
  }
}

function headJson(position: BatchPosition, receipt: BatchReceipt, outbox: Outbox): string {
  return JSON.stringify({
    log_id: position.logId,
    partition: position.partition,
    owner: position.owner,
    from: position.fromOffset,
    to: position.toOffset,
    through: position.producedThrough,
    checksum: receipt.checksum,
    stored: receipt.stored,
    duplicate: receipt.duplicate,
    dropped: receipt.dropped,
    dead_lettered: receipt.deadLettered,
    stored_rows: receipt.storedRows,
    hash_sum: receipt.hashSum,
    prev_offset: receipt.prev?.offset,
    prev_sub: receipt.prev?.sub,
    last_offset: receipt.last?.offset,
    last_sub: receipt.last?.sub,
    config_version: receipt.configVersion,
    outbox: {
      ...outbox,
      ...(receipt.warnings.length > 0 && { warnings: receipt.warnings }),
      ...(receipt.cookieless && { cookieless: receipt.cookieless }),
      ...(receipt.marks && { marks: receipt.marks }),
      ...(receipt.counts && { counts: receipt.counts }),
    },
  })
}

function listJson<T>(items: readonly T[], json: (item: T) => string): string | null {
  return items.length === 0 ? null : `[${items.map(json).join()}]`
}

/** What JSON.stringify spells has no line feed in it, and what Postgres spells neither. */
function lines<T>(items: readonly T[], text: (item: T) => string): string | null {
  return items.length === 0 ? null : items.map(text).join('\n')
}

function updateJson({ id, ...person }: PersonWrite): string {
  return `{"i":${id},${fieldsJson(person, person.propertiesJson ?? '')}}`
}

function insertJson({ teamId, uuid, ...person }: PersonWrite): string {
  return `{"t":${teamId},"u":"${uuid}",${fieldsJson(person, person.shownPropertiesJson)}}`
}

type Fields = Pick<PersonWrite, 'version' | 'createdAtMs' | 'isIdentified' | 'timesJson'>

function fieldsJson({ version, createdAtMs, isIdentified, timesJson }: Fields, properties: string): string {
  // Postgres writes such numbers out, 1e300 with all its zeros.
  const bytes = /\de[+-]\d/.test(properties) ? null : Buffer.byteLength(properties)
  return `"v":${version},"b":${bytes},"c":${createdAtMs},"f":${isIdentified},"k":${timesJson ?? null}`
}

function changesJson(writeSet: WriteSet): string | null {
  const parts: string[] = []
  const add = (name: string, list: string | null) => {
    if (list) parts.push(`"${name}":${list}`)
  }
  add('merges', listJson(writeSet.merges, mergeJson))
  add('mappings', listJson(writeSet.mappings, mappingJson))
  add(
    'types',
    listJson(writeSet.groupTypes, ({ teamId, type, index }) =>
      JSON.stringify({ t: teamId, g: type, i: index }),
    ),
  )
  add('groups', listJson(writeSet.groups, groupJson))
  return parts.length === 0 ? null : `{${parts.join()}}`
}

function mergeJson({ teamId, loserUuid, intoUuid, homeUuid, version, nowMs }: MergeWrite): string {
  return JSON.stringify({ t: teamId, l: loserUuid, k: intoUuid, h: homeUuid, v: version, n: nowMs })
}

function mappingJson({ teamId, distinctId, personUuid, version, expectedVersion }: MappingWrite): string {
  return JSON.stringify({ t: teamId, d: distinctId, u: personUuid, v: version, e: expectedVersion })
}

function groupJson(group: GroupWrite): string {
  const { teamId, index, key, version, propertiesJson, createdAtMs, expectedVersion } = group
  return `{"t":${teamId},"i":${index},"k":${JSON.stringify(key)},"v":${version},"p":${propertiesJson},"c":${createdAtMs},"e":${expectedVersion ?? null}}`
}
