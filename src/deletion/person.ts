/**
 * A person: out of Postgres in one transaction, then out of ClickHouse up to the positions of that moment. Who comes back
 * under one of its ids is somebody new. In: a uuid or a distinct id.
 *
 * Taking out: replays of its dead letters are cancelled, ingest comes to where the raw log ends now; then take_person_out
 * (0014_deletion.sql) makes tombstones, takes the mappings away and notes the positions, in one moment; the rows that say so
 * go by way of ingest's outbox. Nothing that is captured after that goes: what follows looks only below the positions,
 * however late it runs.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { rawEnds, until, untilIngested } from '../repair/index.ts'
import { type CarriedOut, carryOut, type DeletionDeps, type Plan } from './carry-out.ts'
import { chunksOf, rowsOf, stateOf } from './conditions.ts'
import { countRows } from './erase-rows.ts'
import type { Deletion, Order } from './orders.ts'
import { cancelReplays, untilUnsent } from './replays.ts'
import { sayOfSpools } from './spools.ts'
import { currentTargets, type PersonKey, personKey, recordedTargets } from './targets.ts'

export type Preview = { persons: number; distinctIds: number; rows: Record<string, number> }
export type PersonOrder = Omit<Order, 'kind'>

/**
 * Tables of Postgres whose rows name a person or a distinct id: take_person_out empties them. Events that wait there for
 * something else, such as a delivery, go with the rest: their table belongs here, and to `end` or take_person_out.
 */
export const PERSON_TABLES = ['pending_move', 'person_distinct_id'] as const

const TAKE_TRIES = 3

/** What a deletion would take, as of now. Changes nothing. */
export async function previewPerson(
  { sql, warehouse }: Pick<DeletionDeps, 'sql' | 'warehouse'>,
  { teamId, subject }: Pick<Order, 'teamId' | 'subject'>,
): Promise<Preview> {
  const targets = await currentTargets(sql, teamId, personKey(teamId, subject))
  const chunks = chunksOf(targets)
  const rows = await countRows(warehouse, chunks.length, (table, chunk) =>
    rowsOf(table, teamId, chunks[chunk]!, undefined),
  )
  const persons = targets.persons.filter(({ createdMs }) => createdMs !== undefined).length
  return { persons, distinctIds: targets.ids.length, rows }
}

/** As `carryOut`. Throws HR_DELETION_REFUSED for an id that is none. */
export async function deletePerson(
  deps: DeletionDeps,
  order: PersonOrder,
  waitMs: number,
): Promise<CarriedOut> {
  personKey(order.teamId, order.subject)
  return carryOut(deps, { ...order, kind: 'person' }, PERSON_PLAN, waitMs)
}

const PERSON_PLAN: Plan = {
  takeOut,
  // Who had looked before has read raw records that were there when the person was taken out. A letter that was planned
  // before anybody knew that it was this person's must be unsent, or in the raw log, before the ends are noted.
  async seen(deps, { id, teamId, by }, waitMs) {
    const targets = await recordedTargets(deps.sql, id)
    await untilUnsent(deps, () => cancelReplays(deps, targets, { teamId, by }), waitMs)
  },
  unsent,
  async target({ sql }, { id, teamId, positions, version }) {
    const chunks = chunksOf(await recordedTargets(sql, id))
    return {
      chunks: chunks.length,
      rows: (table, chunk) => rowsOf(table, teamId, chunks[chunk]!, positions),
      state: chunks.flatMap((chunk) => stateOf(teamId, chunk, version)),
    }
  },
  async letGo() {},
  async end(tx, { id, teamId }) {
    // What an order to send dead letters again asked for is kept for people to read.
    await tx`
      UPDATE dead_letter_job j SET filter = j.filter - 'distinctId' FROM deletion_target t
      WHERE t.deletion_id = ${id} AND t.kind = 'distinct_id' AND j.filter ->> 'distinctId' = t.key
        AND j.filter ->> 'teamId' = ${String(teamId)}`
    await tx`DELETE FROM deletion_target WHERE deletion_id = ${id}`
    await tx`UPDATE deletion SET subject = NULL WHERE id = ${id}`
  },
}

async function takeOut(
  deps: DeletionDeps,
  { id, teamId, subject, by }: Deletion,
  waitMs: number,
): Promise<void> {
  const { sql, says } = deps
  const key = personKey(teamId, subject!)
  await sayOfSpools(
    deps,
    'those of the person come later, as of somebody new: delete it again when they are drained',
  )
  await untilUnsent(
    deps,
    async () => cancelReplays(deps, await currentTargets(sql, teamId, key), { teamId, by }),
    waitMs,
  )
  await untilIngested(deps, await rawEnds(deps), performance.now() + waitMs)
  for (let attempt = 1; ; attempt++) {
    await until(performance.now() + waitMs, says, () => moving(sql, teamId, key))
    try {
      await guardState('take a person out', async () => {
        await sql`SELECT take_person_out(${id}, ${key.uuid}::uuid, ${key.distinctId}::text, ${key.uuidOfId}::uuid)`
      })
      return
    } catch (error) {
      if (!isRetriable(error) || attempt === TAKE_TRIES) throw error
    }
  }
}

/** Ids of the person that were moved and whose rows are on their way; they would come behind those that say that it is gone. */
async function moving(
  sql: Sql,
  teamId: number,
  { uuid, distinctId }: PersonKey,
): Promise<string | undefined> {
  const [found] = await guardState(
    'look for ids on their way',
    () => sql`
      SELECT FROM pending_move WHERE outbox IS NOT NULL
        AND person_id = ANY (persons_behind(${teamId}, ${uuid}::uuid, ${distinctId}::text)) LIMIT 1`,
  )
  return found && 'ingest is sending distinct ids of the person that were moved'
}

async function unsent({ sql }: DeletionDeps, { id }: Deletion): Promise<number> {
  const [row] = await guardState(
    'look for state to be sent',
    () => sql<{ left: number }[]>`
      SELECT count(*)::int AS left FROM state_republish s
      JOIN deletion d ON d.id = ${id} AND d.team_id = s.team_id
      JOIN deletion_target t ON t.deletion_id = d.id AND t.key = s.key
        AND t.kind = CASE s.kind WHEN 'person' THEN 'person' WHEN 'mapping' THEN 'distinct_id' END`,
  )
  return row!.left
}
