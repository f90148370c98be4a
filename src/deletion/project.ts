/**
 * A project, whole: its events, persons, groups, dead letters, warnings, definitions, and the project itself. Its token is
 * nobody's then. A team id is never given again, so that every row with it goes, whenever it came.
 *
 *   open ──▶ closing: capture does not know the token; what was captured before is taken as ever, so that it is erased, too
 *        ──ingest has come to the raw log's ends──▶ closed: ingest takes nothing of it any more (`unknown_token`)
 *        ──ends noted, everything below loaded, ClickHouse erased──▶ Postgres, table by table ──▶ the project is gone
 *
 * What must hold: after `closed` is seen everywhere, nothing is made of it. A project is read anew each few seconds
 * (catalog/project-catalog.ts), so both changes are waited for. It stays in Postgres until the end, since a batch that was
 * applied and is to be produced again must find it.
 */
import { CANARY_TEAM_ID, guardState, PROJECTS_STALE_MS, type Sql, transaction } from '../catalog/index.ts'
import { failpoint, pause } from '../platform/index.ts'
import { rawEnds, untilIngested } from '../repair/index.ts'
import { type CarriedOut, carryOut, type DeletionDeps, type Plan, type WorkDeps } from './carry-out.ts'
import { STATE_TABLES } from './conditions.ts'
import { countRows } from './erase-rows.ts'
import { deletionError } from './errors.ts'
import type { Deletion, Order } from './orders.ts'
import { cancelProjectReplays, untilUnsent } from './replays.ts'
import { sayOfSpools } from './spools.ts'

/** Tables of Postgres with rows of a project, in an order in which they can go: who points at persons goes first. */
export const PROJECT_TABLES = [
  'pending_move',
  'person_distinct_id',
  'person',
  'group_state',
  'group_type',
  'cookieless_visitor',
  'state_republish',
  'dead_letter_decision',
  'event_definition',
  'property_definition',
  'definition_count',
  'project_usage',
  'rejected_request',
  'transformation_set',
  'transformation_key',
  'transformation_shadow',
] as const
/** Others with a team id: numbers without names, and what says that there was a project. */
export const KEPT_TABLES = ['receipt_hourly', 'deletion', 'project'] as const

/** Of one transaction: locks of ms. */
const PAGE_ROWS = 5_000

export type ProjectPreview = { rows: Record<string, number> }
export type ProjectOrder = Pick<Order, 'teamId' | 'by' | 'why'> & { name: string }

/** Rows by table, in ClickHouse and in Postgres, as of now. */
export async function previewProject(
  { sql, warehouse }: Pick<DeletionDeps, 'sql' | 'warehouse'>,
  teamId: number,
): Promise<ProjectPreview> {
  const rows = await countRows(warehouse, 1, () => ofTeam(teamId))
  for (const table of PROJECT_TABLES) {
    const [row] = await guardState(
      'count rows of a project',
      () => sql<{ n: number }[]>`
        SELECT count(*)::bigint AS n FROM ${sql(table)} WHERE team_id = ${teamId}`,
    )
    rows[table] = row!.n
  }
  return { rows }
}

/** As `carryOut`. Throws HR_DELETION_REFUSED for a project that is no customer's. */
export async function deleteProject(
  deps: DeletionDeps,
  { name, ...order }: ProjectOrder,
  waitMs: number,
): Promise<CarriedOut> {
  if (order.teamId === CANARY_TEAM_ID)
    throw deletionError('HR_DELETION_REFUSED', 'the canary measures with this project; it cannot be deleted')
  return carryOut(deps, { ...order, kind: 'project', subject: { project: name } }, PROJECT_PLAN, waitMs)
}

const PROJECT_PLAN: Plan = {
  takeOut,
  seen: untilSeen,
  unsent,
  async target(_, { teamId }) {
    const where = ofTeam(teamId)
    return { chunks: 1, rows: () => where, state: STATE_TABLES.map((table) => ({ table, where })) }
  },
  letGo,
  async end(tx, { id, teamId }) {
    // Deletions of its persons that were cut off: there is nobody left to delete.
    await tx`
      UPDATE erasures SET erased_at = now() WHERE erased_at IS NULL
        AND run_id IN (SELECT o.id FROM deletion o WHERE o.team_id = ${teamId} AND o.state <> 'done' AND o.id <> ${id})`
    await tx`
      DELETE FROM deletion_target t USING deletion o WHERE t.deletion_id = o.id AND o.team_id = ${teamId}`
    await tx`
      UPDATE deletion SET state = 'done', subject = NULL, piece = NULL, ended_at = now()
      WHERE team_id = ${teamId} AND state <> 'done' AND id <> ${id}`
    // What an order to send dead letters again asked for is kept for people to read.
    await tx`
      UPDATE dead_letter_job SET filter = jsonb_build_object('teamId', ${teamId}::int)
      WHERE filter ->> 'teamId' = ${String(teamId)}`
    await tx`DELETE FROM project WHERE team_id = ${teamId}`
  },
}

async function takeOut(deps: DeletionDeps, { id, teamId, by }: Deletion, waitMs: number): Promise<void> {
  const { sql } = deps
  await sayOfSpools(deps, 'those of the project come later, and are dropped: nobody has their token then')
  await guardState(
    'close the door of a project',
    () => sql`
      UPDATE project SET state = 'closing', state_at = clock_timestamp() WHERE team_id = ${teamId} AND state = 'open'`,
  )
  failpoint('project_closing')
  await untilUnsent(deps, () => cancelProjectReplays(sql, teamId, by), waitMs)
  await untilSeen(deps)
  await untilIngested(deps, await rawEnds(deps), performance.now() + waitMs)
  // Not in the transaction: with many persons it takes seconds.
  const [counts] = await guardState(
    'count the persons of a project',
    () => sql<{ persons: number; distinctIds: number }[]>`
      SELECT (SELECT count(*) FROM person WHERE team_id = ${teamId} AND deleted_at IS NULL)::bigint AS persons,
        (SELECT count(*) FROM person_distinct_id WHERE team_id = ${teamId})::bigint AS "distinctIds"`,
  )
  await guardState('close a project', () =>
    transaction(sql, async (tx) => {
      await tx`
        UPDATE project SET state = 'closed', state_at = clock_timestamp() WHERE team_id = ${teamId} AND state = 'closing'`
      await tx`
        UPDATE deletion SET state = 'taken', version = 0, positions = '[]',
          counts = ${JSON.stringify(counts)}::text::jsonb
        WHERE id = ${id} AND state = 'asked'`
    }),
  )
}

/**
 * Returns when every process that can ask Postgres has seen the project's state of now. The whole time counts from here:
 * what the row says of its change was said before the commit, and how long that took nobody knows.
 */
async function untilSeen({ projectsStaleMs = PROJECTS_STALE_MS }: DeletionDeps): Promise<void> {
  await pause(projectsStaleMs)
}

/** Ids that move to another person, and state that is sent again: ingest is at it. */
async function unsent({ sql }: DeletionDeps, { teamId }: Deletion): Promise<number> {
  const [row] = await guardState(
    'look for state to be sent',
    () => sql<{ left: number }[]>`
      SELECT ((SELECT count(*) FROM state_republish WHERE team_id = ${teamId})
        + (SELECT count(*) FROM pending_move WHERE team_id = ${teamId}))::int AS left`,
  )
  return row!.left
}

/** Table by table, a page at a time; then all of them are asked. */
async function letGo(deps: WorkDeps, { teamId }: Deletion): Promise<void> {
  const { sql, hold, says } = deps
  const inPages = async (page: () => Promise<number>) => {
    for (let rows = PAGE_ROWS; rows === PAGE_ROWS; ) {
      await hold()
      rows = await page()
      failpoint('project_page_gone')
    }
  }
  for (const table of PROJECT_TABLES) {
    says(`Postgres: ${table}`)
    if (table === 'person') await unlinkPersons(deps, teamId)
    await inPages(() => deletePage(sql, table, teamId))
  }
  const left = await tablesLeft(sql, teamId)
  if (left.length > 0)
    throw deletionError('HR_DELETION_CHANGED', `Postgres has rows of the project again: ${left.join(', ')}`)
}

async function deletePage(sql: Sql, table: string, teamId: number): Promise<number> {
  const done = await guardState(
    'delete rows of a project',
    () => sql`
      DELETE FROM ${sql(table)} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM ${sql(table)} WHERE team_id = ${teamId} LIMIT ${PAGE_ROWS}))`,
  )
  return done.count
}

/** Persons point at those that they were merged into, and could go in no order. Each is looked at once. */
async function unlinkPersons({ sql, hold }: WorkDeps, teamId: number): Promise<void> {
  for (let after: string | null = null; ; ) {
    await hold()
    const linked: { uuid: string }[] = await guardState(
      'unlink persons of a project',
      () => sql`
        UPDATE person SET merged_into = NULL WHERE ctid = ANY (ARRAY(
          SELECT ctid FROM person
          WHERE team_id = ${teamId} AND merged_into IS NOT NULL AND (${after}::uuid IS NULL OR uuid > ${after}::uuid)
          ORDER BY uuid LIMIT ${PAGE_ROWS}))
        RETURNING uuid`,
    )
    failpoint('project_page_gone')
    if (linked.length < PAGE_ROWS) return
    after = linked
      .map(({ uuid }) => uuid)
      .sort()
      .at(-1)!
  }
}

async function tablesLeft(sql: Sql, teamId: number): Promise<string[]> {
  const tables: string[] = []
  for (const table of PROJECT_TABLES) {
    const [found] = await guardState(
      'look for rows of a project',
      () => sql`SELECT FROM ${sql(table)} WHERE team_id = ${teamId} LIMIT 1`,
    )
    if (found) tables.push(table)
  }
  return tables
}

function ofTeam(teamId: number): string {
  return `team_id = ${teamId}`
}
