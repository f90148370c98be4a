/**
 * Squash: writes into stored events the person that the overrides of their distinct ids say, and takes these overrides
 * away, so that the table that every query joins stays small. In: overrides that are older than a cutoff. Out: the same
 * answers, with fewer of them.
 *
 * What must hold: at every moment a query sees each event under its right person. So an override goes only when
 *   1 no event can arrive any more that was stamped without it. Who stamps reads Postgres, where an override is before it
 *     is in ClickHouse. So a batch that began after the snapshot knows it; one that began before has read raw records that
 *     lie below the ends of the raw log after the snapshot. Everything below these ends is waited for.
 *   2 every stored event of its id says what it says.
 * A newer override of the same id has a higher version, and stays. Cut off at any point, the next run goes on; it asks again what
 * is to be written, since a repair may have brought back events as they were.
 * Sources, sort keys and numbers of rows stay as they are, so the audit does not notice.
 */
import { guardState, type Sql, transaction, withRowsLock } from '../catalog/index.ts'
import { failpoint } from '../platform/index.ts'
import { type RawEnd, rawEnds, type SettleDeps, untilIngested, untilLoaded } from '../repair/index.ts'
import {
  belowOffsets,
  changeRows,
  monthsOf,
  untilNothingIsCopied,
  type Warehouse,
} from '../warehouse/index.ts'
import { squashError } from './errors.ts'
import { moveSquash, openSquash, type Snapshot, type Squash } from './runs.ts'
import {
  type Access,
  forgetSnapshot,
  makeDictionary,
  prepareSnapshot,
  readSnapshot,
  type SnapshotKey,
  snapshotKeys,
  takeSnapshot,
} from './snapshot.ts'

export type SquashDeps = SettleDeps & { warehouse: Warehouse; access: Access }

/** Of one transaction, which keeps the persons of as many ids from ingest: ms. */
const PAGE_KEYS = 1_000

/**
 * Squashes overrides that came before `beforeMs`, or goes on with a squash that was cut off. Throws HR_REPAIR_WAITS after
 * `waitMs`, HR_SQUASH_BUSY, and retriable errors of the servers; run it again then.
 */
export async function runSquash(
  deps: SquashDeps,
  options: { beforeMs: number; by: string; waitMs: number },
): Promise<Squash> {
  const busy = () =>
    squashError(
      'HR_SQUASH_BUSY',
      'another squash, a deletion or a repair of rows is at work; wait for its end',
    )
  return withRowsLock(deps.sql, busy, async (hold) => {
    await untilNothingIsCopied(deps.warehouse, hold)
    await prepareSnapshot(deps.warehouse)
    let squash = await openSquash(deps.sql, options.beforeMs, options.by)
    if (squash.state !== 'asked' && !isSame(squash.snapshot, await readSnapshot(deps.warehouse)))
      squash = await moveSquash(deps.sql, squash, { to: 'asked' })
    if (squash.state === 'asked') {
      const snapshot = await takeSnapshot(deps.warehouse, squash.beforeMs)
      // Asked after the snapshot: what was read without these overrides lies below.
      squash = await moveSquash(deps.sql, squash, { to: 'snapped', snapshot, ends: await rawEnds(deps) })
      failpoint('squash_snapped')
    }
    // Each time: a repair may have brought back events as they were, or may have been cut off on the way to it.
    await untilIngested(deps, squash.ends, performance.now() + options.waitMs)
    await untilLoaded(deps, performance.now() + options.waitMs)
    squash = await moveSquash(deps.sql, squash, { to: 'writing' })
    // An insert of a run that was killed may have landed behind our look.
    if (!isSame(squash.snapshot, await readSnapshot(deps.warehouse)))
      throw squashError('HR_SQUASH_CHANGED', 'the snapshot in ClickHouse is another one than was noted')
    const dictionary = await makeDictionary(deps.warehouse, deps.access, squash.snapshot!)
    const events =
      (squash.counts.events ?? 0) + (await writePersons({ ...deps, hold }, dictionary, squash.ends))
    squash = await moveSquash(deps.sql, squash, { to: 'removing', counts: { events } })
    failpoint('squash_written')
    const overrides = squash.snapshot!.keys
    await noteSquashed(deps)
    await removeOverrides({ ...deps, hold }, dictionary)
    failpoint('squash_removed')
    squash = await moveSquash(deps.sql, squash, { to: 'done', counts: { overrides } })
    await forgetSnapshot(deps.warehouse)
    return squash
  })
}

function isSame(noted: Snapshot | undefined, there: Snapshot): boolean {
  return noted !== undefined && noted.keys === there.keys && noted.hash === there.hash
}

type WorkDeps = SquashDeps & { hold: () => Promise<void> }

/**
 * Month by month; gives how many rows of events it changed (of a run that was cut off, those of the rest). What lies
 * behind the ends knew the override, or a newer one, and must not be taken back to it.
 */
async function writePersons(
  { warehouse, hold, says }: WorkDeps,
  dictionary: string,
  ends: readonly RawEnd[],
): Promise<number> {
  // Nothing comes any more of a raw log that is gone.
  const logs = [...new Set(ends.map(({ logId }) => `toUUID('${logId}')`))]
  const below = `(${belowOffsets(ends.map((lane) => ({ ...lane, offset: lane.end })))} OR _log_id NOT IN (${logs.join()}))`
  const key = '(team_id, distinct_id)'
  const person = `dictGet(${dictionary}, 'person_id', ${key})`
  const differs = `dictHas(${dictionary}, ${key}) AND dictGet(${dictionary}, 'is_deleted', ${key}) = 0 AND person_id != ${person} AND ${below}`
  const months = await monthsOf(warehouse, { name: 'events' })
  let events = 0
  for (const [i, month] of months.entries()) {
    says(`month ${month}, ${i + 1} of ${months.length}`)
    await hold()
    const change = { table: 'events', month, what: `UPDATE person_id = ${person}`, where: differs }
    const rows = await changeRows(warehouse, change, says)
    events += rows
    if (rows > 0) failpoint('squash_month_written')
  }
  return events
}

/** So that a repair does not take overrides that are gone on purpose for missing ones. */
async function noteSquashed({ sql, warehouse }: { sql: Sql; warehouse: Warehouse }): Promise<void> {
  for await (const page of snapshotKeys(warehouse, PAGE_KEYS)) await noteKeys(sql, page)
}

/** Locks as apply_batch has them: the persons by id, and with each the right to its mappings. */
async function noteKeys(sql: Sql, keys: readonly SnapshotKey[]): Promise<void> {
  const json = JSON.stringify(keys)
  await guardState('note squashed overrides', () =>
    transaction(sql, async (tx) => {
      await tx`
        SELECT FROM person WHERE id IN (
          SELECT d.person_id FROM jsonb_to_recordset(${json}::text::jsonb) AS s(team int, id text)
          JOIN person_distinct_id d ON d.team_id = s.team AND d.distinct_id = s.id)
        ORDER BY id FOR NO KEY UPDATE`
      // One that has moved to another person since is locked here, in the order of who moves them.
      await tx`
        SELECT FROM jsonb_to_recordset(${json}::text::jsonb) AS s(team int, id text)
        JOIN person_distinct_id d ON d.team_id = s.team AND d.distinct_id = s.id
        ORDER BY d.team_id, d.distinct_id FOR NO KEY UPDATE OF d`
      await tx`
        UPDATE person_distinct_id d SET squashed_version = s.version
        FROM jsonb_to_recordset(${json}::text::jsonb) AS s(team int, id text, version bigint)
        WHERE d.team_id = s.team AND d.distinct_id = s.id AND d.squashed_version IS DISTINCT FROM s.version`
    }),
  )
}

async function removeOverrides({ warehouse, hold, says }: WorkDeps, dictionary: string): Promise<void> {
  const where = `version <= dictGetOrDefault(${dictionary}, 'version', (team_id, distinct_id), toInt64(-1))`
  await hold()
  await changeRows(warehouse, { table: 'person_distinct_id_overrides', what: 'DELETE', where }, says)
}
