/**
 * Which rows of ClickHouse are a person's: conditions as text, in chunks that one statement takes. Pure.
 *
 * A row of `events` is a person's by its distinct id or by the person on it; other tables know the distinct id, and
 * warnings name ids in their details. All of it only below the position at which the person was taken out of Postgres:
 * what was decided from there on is somebody new. One thing lies behind it: a batch that read the person before and was
 * applied after. Its rows carry the old person, told by uuid and birth, and the raw log's end after the deletion bounds
 * them.
 */
import { TOPICS } from '../event/index.ts'
import { belowOffsets, textLiteral } from '../warehouse/index.ts'
import type { Position } from './orders.ts'

export type TargetPerson = { uuid: string; createdMs: number | undefined }
export type TargetId = { distinctId: string; overridden: boolean }
export type Targets = { persons: TargetPerson[]; ids: TargetId[] }

/** Tables with rows of persons, in the order in which they are erased. */
export const ROW_TABLES = ['ingestion_warnings', 'dead_letters', 'outcomes', 'events'] as const
/** Tables whose rows the ledger does not count. */
export const STATE_TABLES = ['person', 'person_distinct_id_overrides', 'groups'] as const

/** Of the text of one statement: ClickHouse reads 256 KiB at most. */
const CHUNK_CHARS_MAX = 60_000
/** Of a person beside its uuid. */
const PERSON_CHARS = 70

/** Always the same chunks for the same targets: who goes on with a deletion finds its piece again. */
export function chunksOf({ persons, ids }: Targets): Targets[] {
  const chunks: Targets[] = []
  let chars = CHUNK_CHARS_MAX
  const take = (more: number): Targets => {
    chars += more
    if (chars > CHUNK_CHARS_MAX) {
      chunks.push({ persons: [], ids: [] })
      chars = more
    }
    return chunks.at(-1)!
  }
  for (const person of persons) take(PERSON_CHARS).persons.push(person)
  for (const id of ids) take(textLiteral(id.distinctId).length + 1).ids.push(id)
  return chunks
}

/** The rows of `chunk` in `table`; all that there are when no positions are known yet. */
export function rowsOf(
  table: string,
  teamId: number,
  chunk: Targets,
  positions: readonly Position[] | undefined,
): string {
  const ids = chunk.ids.map(({ distinctId }) => textLiteral(distinctId))
  const uuids = chunk.persons.map(({ uuid }) => `toUUID('${uuid}')`)
  const decided = below(positions, 'decided')
  if (table === 'ingestion_warnings') {
    const about = [
      named(
        ID_FIELDS,
        chunk.ids.map(({ distinctId }) => textLiteral(JSON.stringify(distinctId))),
      ),
      named(
        PERSON_FIELDS,
        chunk.persons.map(({ uuid }) => `'"${uuid}"'`),
      ),
    ]
    return `team_id = ${teamId} AND (${about.join(' OR ')}) AND ${decided}`
  }
  const byId = ids.length > 0 ? `distinct_id IN (${ids.join()})` : '0'
  if (table === 'dead_letters' && uuids.length > 0)
    return `team_id = ${teamId} AND (${byId} OR (${STATE_LETTER} AND ${holds(chunk.persons)})) AND ${decided}`
  if (table !== 'events') return `team_id = ${teamId} AND ${byId} AND ${decided}`
  const byPerson = uuids.length > 0 ? `person_id IN (${uuids.join()})` : '0'
  const births = chunk.persons.flatMap(({ createdMs }) => (createdMs === undefined ? [] : [createdMs]))
  const late =
    births.length === 0
      ? ''
      : ` OR (${below(positions, 'end')} AND ${byPerson} AND toUnixTimestamp64Milli(person_created_at) IN (${births.join()}))`
  return `team_id = ${teamId} AND (${byId} OR ${byPerson}) AND (${decided}${late})`
}

/** Fields of the details of warnings that say whom it is about. */
const ID_FIELDS = [
  'distinctId',
  'illegalDistinctId',
  'otherDistinctId',
  'sourcePersonDistinctId',
  'targetPersonDistinctId',
]
const PERSON_FIELDS = ['personId', 'otherPersonId']

/**
 * Details with one of `fields` at one of `values` (literals of JSON texts). Looked for as text, which the writer makes the
 * same each time: within another field its quotes would be escaped. Details that were cut off are a text within JSON, and
 * there they are.
 */
function named(fields: readonly string[], values: readonly string[]): string {
  if (values.length === 0) return '0'
  const keys = fields.map((field) => `'"${field}":'`).join()
  const escaped = `replaceAll(replaceAll(concat(f, v), '\\\\', '\\\\\\\\'), '"', '\\\\"')`
  const needle = `if(startsWith(details, '{"truncated":'), ${escaped}, concat(f, v))`
  return `arrayExists(v -> arrayExists(f -> position(details, ${needle}) > 0, [${keys}]), [${values.join()}])`
}

/** The letter of a person, or of a mapping, that ClickHouse refused: it has the row itself, and no distinct id. */
const STATE_LETTER = `step IN ('load:${TOPICS.persons}', 'load:${TOPICS.personDistinctIds}')`

/** As RowBinary writes a uuid: two numbers of 64 bits, each with its lowest byte first. */
function holds(persons: readonly TargetPerson[]): string {
  const bytes = persons.map(({ uuid }) => {
    const hex = Buffer.from(uuid.replaceAll('-', ''), 'hex')
    return `unhex('${hex.subarray(0, 8).reverse().toString('hex')}${hex.subarray(8).reverse().toString('hex')}')`
  })
  return `arrayExists(x -> position(raw_value, x) > 0, [${bytes.join()}])`
}

function below(positions: readonly Position[] | undefined, which: 'decided' | 'end'): string {
  return positions
    ? belowOffsets(positions.map((position) => ({ ...position, offset: position[which] })))
    : '1'
}

/** Old rows of the persons in ClickHouse's table of them, and the overrides of their ids: not what was sent since. */
export function stateOf(
  teamId: number,
  { persons, ids }: Targets,
  version: number,
): { table: (typeof STATE_TABLES)[number]; where: string }[] {
  const uuids = persons.map(({ uuid }) => `toUUID('${uuid}')`)
  const moved = ids.filter(({ overridden }) => overridden).map(({ distinctId }) => textLiteral(distinctId))
  const inTeam = `team_id = ${teamId}`
  const state: ReturnType<typeof stateOf> = []
  if (uuids.length > 0)
    state.push({
      table: 'person',
      where: `${inTeam} AND id IN (${uuids.join()}) AND version <= ${version}`,
    })
  // The row that took them back has the next version; that of an id that is somebody's again has it, too.
  if (moved.length > 0)
    state.push({
      table: 'person_distinct_id_overrides',
      where: `${inTeam} AND distinct_id IN (${moved.join()}) AND (version <= ${version} OR (version = ${version + 1} AND is_deleted = 1))`,
    })
  return state
}
