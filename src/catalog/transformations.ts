/**
 * The published sets of transformations. In: a definition that is known to be good (src/transform checks it). Out: the
 * sets of all projects as of one generation. What must hold: generations are seen in their order, so that whoever has
 * seen one has seen all before it; that is why publishing takes a lock. A set is never changed, and goes only with its
 * project.
 */
import { randomBytes } from 'node:crypto'
import { type ErrorSpec, errorTable } from '../event/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { transaction } from './transaction.ts'

/** That of a deployment where nothing was ever published. */
export const FIRST_GENERATION = 1

/**
 * A generation is the second in which it was published, or the next: one that went with its project, or that a restored
 * Postgres knows nothing of, is never given again to other sets, while rows name it.
 */
const GENERATIONS_SINCE = '2026-01-01T00:00:00Z'

export type PublishedSet = {
  generation: number
  teamId: number
  version: number
  /** As it was published. */
  definition: unknown
  note: string
  publishedAt: Date
}

export type TransformationState = {
  generation: number
  /** By project: the newest set that is not newer than the generation, and the key of `hash`. */
  sets: ReadonlyMap<number, PublishedSet & { key: Uint8Array }>
}

const KEY_BYTES = 32

export const TRANSFORMATION_ERRORS = {
  HR_TRANSFORMATIONS_CHANGED: {
    class: 'rejected',
    meaning:
      'Somebody else published transformations of this project in between. Look at theirs, then publish again.',
  },
} as const satisfies Record<string, ErrorSpec>

const transformationError = errorTable(TRANSFORMATION_ERRORS)

export async function newestGeneration(sql: Sql): Promise<number> {
  const [row] = await guardState(
    'ask for the newest transformations',
    () => sql<{ generation: number | null }[]>`SELECT max(generation) AS generation FROM transformation_set`,
  )
  return row?.generation ?? FIRST_GENERATION
}

/** What holds under a generation; under the newest when none is named. */
export async function transformationsAt(sql: Sql, generation?: number): Promise<TransformationState> {
  const through = generation ?? (await newestGeneration(sql))
  if (through <= FIRST_GENERATION) return { generation: FIRST_GENERATION, sets: new Map() }
  const rows = await guardState(
    'read transformations',
    () => sql<(Row & { key: Uint8Array })[]>`
      SELECT DISTINCT ON (team_id) generation, team_id, version, definition, note, published_at, key
      FROM transformation_set JOIN transformation_key USING (team_id)
      WHERE generation <= ${through}
      ORDER BY team_id, generation DESC`,
  )
  return {
    generation: through,
    sets: new Map(rows.map((row) => [row.team_id, { ...toSet(row), key: row.key }])),
  }
}

/** The sets of a project, newest first. */
export async function publishedSets(sql: Sql, teamId: number, limit = 100): Promise<PublishedSet[]> {
  const rows = await guardState(
    'list transformations',
    () => sql<Row[]>`
      SELECT generation, team_id, version, definition, note, published_at FROM transformation_set
      WHERE team_id = ${teamId} ORDER BY version DESC LIMIT ${limit}`,
  )
  return rows.map(toSet)
}

/**
 * Takes effect in every ingest process within seconds. With `after`, only if that is still the project's newest version,
 * else HR_TRANSFORMATIONS_CHANGED.
 */
export async function publishSet(
  sql: Sql,
  teamId: number,
  definition: unknown,
  { note = '', after }: { note?: string; after?: number } = {},
): Promise<PublishedSet> {
  const row = await guardState('publish transformations', () =>
    transaction(sql, async (tx) => {
      await tx`LOCK TABLE transformation_set IN EXCLUSIVE MODE`
      await tx`
        INSERT INTO transformation_key (team_id, key) VALUES (${teamId}, ${randomBytes(KEY_BYTES)})
        ON CONFLICT DO NOTHING`
      const [before] = await tx<{ version: number }[]>`
        SELECT coalesce(max(version), 0) AS version FROM transformation_set WHERE team_id = ${teamId}`
      if (after !== undefined && before!.version !== after) return undefined
      const [published] = await tx<Row[]>`
        INSERT INTO transformation_set (generation, team_id, version, definition, note)
        SELECT greatest(coalesce(max(generation), ${FIRST_GENERATION}) + 1,
            extract(epoch FROM now() - ${GENERATIONS_SINCE}::timestamptz)::integer), ${teamId}, ${before!.version + 1},
          ${JSON.stringify(definition)}::text::jsonb, ${note}
        FROM transformation_set
        RETURNING generation, team_id, version, definition, note, published_at`
      return published!
    }),
  )
  if (row) return toSet(row)
  throw transformationError(
    'HR_TRANSFORMATIONS_CHANGED',
    `version ${after} of the project's transformations is not the newest one any more; look at what was published, and publish again`,
  )
}

/** The key under which a project's `hash` works; undefined until it published something. */
export async function transformationKey(sql: Sql, teamId: number): Promise<Uint8Array | undefined> {
  const [row] = await guardState(
    'read the key of transformations',
    () => sql<{ key: Uint8Array }[]>`SELECT key FROM transformation_key WHERE team_id = ${teamId}`,
  )
  return row?.key
}

type Row = {
  generation: number
  team_id: number
  version: number
  definition: unknown
  note: string
  published_at: Date
}

function toSet(row: Row): PublishedSet {
  const { generation, team_id: teamId, version, definition, note, published_at: publishedAt } = row
  return { generation, teamId, version, definition, note, publishedAt }
}
