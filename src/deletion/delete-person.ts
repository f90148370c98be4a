/**
 * Deletes a person: out of Postgres in one transaction, then out of ClickHouse up to the positions of that moment. In: an
 * order. Out: nothing of the person is left below these positions, the ledger knows how many rows went, and whoever comes
 * back under one of its ids is somebody new.
 *
 *   1 replays of its dead letters are cancelled; ingest comes to where the raw log ends now
 *   2 take_person_out (0014_deletion.sql): tombstones, no mappings, positions; state rows by way of ingest's outbox
 *   3 the raw log's ends are noted: what was decided with an old look at the person lies below
 *   4 everything below is waited for: decided, sent, loaded
 *   5 rows are recorded and erased (erase-rows.ts), then old versions of the person and its overrides
 *   6 asked once more; then the order is done, and forgets whom it was about
 *
 * What must hold: cut off at any point, the same order goes on. Nothing that is captured after 2 goes: steps 5 and 6 look
 * only below the positions, however late they run.
 */
import { guardState, listSpools, transaction, withRowsLock } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { failpoint } from '../platform/index.ts'
import { rawEnds, type SettleDeps, until, untilIngested, untilLoaded } from '../repair/index.ts'
import { changeRows, type Warehouse } from '../warehouse/index.ts'
import { chunksOf, rowsOf, stateOf, type Targets } from './conditions.ts'
import { countRows, eraseRows } from './erase-rows.ts'
import { deletionError } from './errors.ts'
import { type Deletion, endOrder, notePositions, type Order, openOrder, readOrder } from './orders.ts'
import { cancelReplays } from './replays.ts'
import { untilSent } from './state-sent.ts'
import { currentTargets, personKey, recordedTargets } from './targets.ts'

export type DeletionDeps = SettleDeps & { warehouse: Warehouse }

export type Preview = { persons: number; distinctIds: number; rows: Record<string, number> }

const TAKE_TRIES = 3
/** Rows that a mutation left, or that were put back by hand, are taken in another round. */
const ROUNDS_MAX = 3

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

/**
 * Carries the order out, or goes on with it. Throws HR_REPAIR_WAITS (after `waitMs` at a step), HR_DELETION_BUSY, and
 * retriable errors of the servers: the same order goes on then.
 */
export async function deletePerson(deps: DeletionDeps, order: Order, waitMs: number): Promise<Deletion> {
  const { sql } = deps
  const busy = () =>
    deletionError(
      'HR_DELETION_BUSY',
      'another deletion, a squash or a repair of rows is at work; wait for its end',
    )
  return withRowsLock(sql, busy, async (hold) => {
    let deletion = await openOrder(sql, order)
    const { id } = deletion
    failpoint('deletion_asked')
    if (deletion.state === 'asked') {
      await takeOut(deps, deletion, waitMs)
      failpoint('deletion_taken')
      deletion = await readOrder(sql, id)
    }
    if (deletion.state === 'taken') {
      await noteEnds(deps, deletion)
      failpoint('deletion_noted')
      deletion = await readOrder(sql, id)
    }
    await settle(deps, deletion, waitMs)
    await erase({ ...deps, hold }, deletion)
    failpoint('deletion_erased')
    await guardState('end a deletion', () => transaction(sql, (tx) => endOrder(tx, id)))
    return readOrder(sql, id)
  })
}

async function takeOut(deps: DeletionDeps, { id, teamId, subject, by }: Deletion, waitMs: number) {
  const { sql, says } = deps
  const key = personKey(teamId, subject!)
  await sayOfSpools(deps)
  await until(performance.now() + waitMs, says, async () => {
    const sending = await cancelReplays(deps, await currentTargets(sql, teamId, key), { teamId, by })
    return sending === 0 ? undefined : `${sending} dead letters of the person are being sent again`
  })
  await untilIngested(deps, await rawEnds(deps), performance.now() + waitMs)
  for (let attempt = 1; ; attempt++) {
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

async function sayOfSpools({ sql, says }: DeletionDeps): Promise<void> {
  const waiting = (await listSpools(sql)).reduce((sum, spool) => sum + spool.accepted - spool.drained, 0)
  if (waiting > 0)
    says(
      `${waiting} events wait in spools of capture; those of the person come later, as of somebody new: delete it again when they are drained`,
    )
}

async function noteEnds(deps: DeletionDeps, { id, positions }: Deletion): Promise<void> {
  const known = new Map(positions.map((position) => [`${position.logId}/${position.partition}`, position]))
  for (const { end, ...lane } of await rawEnds(deps)) {
    const key = `${lane.logId}/${lane.partition}`
    const position = known.get(key) ?? { ...lane, decided: 0, end: 0 }
    known.set(key, { ...position, end: Math.max(position.decided, end) })
  }
  await notePositions(deps.sql, id, [...known.values()])
}

async function settle(deps: DeletionDeps, { id, positions }: Deletion, waitMs: number): Promise<void> {
  const deadlineMs = performance.now() + waitMs
  await untilIngested(deps, positions, deadlineMs)
  await untilSent(deps, id, deadlineMs)
  await untilLoaded(deps, deadlineMs)
}

async function erase(deps: DeletionDeps & { hold: () => Promise<void> }, deletion: Deletion): Promise<void> {
  const { sql, warehouse } = deps
  const { id, teamId, positions, version } = deletion
  const chunks = chunksOf(await recordedTargets(sql, id))
  const where = (table: string, chunk: number) => rowsOf(table, teamId, chunks[chunk]!, positions)
  for (let round = 1; ; round++) {
    await eraseRows(deps, await readOrder(sql, id), chunks.length, where)
    for (const chunk of chunks) await eraseState(deps, teamId, chunk, version)
    const left = Object.entries(await countRows(warehouse, chunks.length, where)).filter(
      ([, rows]) => rows > 0,
    )
    if (left.length === 0) return
    if (round === ROUNDS_MAX)
      throw deletionError(
        'HR_DELETION_CHANGED',
        `rows are there again after they were erased: ${left.map(([table, rows]) => `${rows} of ${table}`).join(', ')}`,
      )
  }
}

async function eraseState(
  { warehouse, hold, says }: DeletionDeps & { hold: () => Promise<void> },
  teamId: number,
  chunk: Targets,
  version: number,
): Promise<void> {
  for (const [table, where] of Object.entries(stateOf(teamId, chunk, version))) {
    if (where === undefined) continue
    await hold()
    await changeRows(
      warehouse,
      { table, what: 'DELETE', where },
      async () => {
        const [row] = await warehouse.query<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${where}`)
        return row!.n
      },
      ({ left }) => says(`${table}: ${left} rows left`),
    )
  }
}
