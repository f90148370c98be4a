/**
 * How far each raw partition is decided and loaded: one consistent look at Postgres.
 *
 * "Below the load progress", exactly: ClickHouse has every row up to place X of a raw partition when the load fence
 * of its `events` partition says `last` = X; an open intent lowers that to the `last` in front of its range (an
 * intent under repair does not: what it lacks is missing). A receipt knows the last place emitted before its batch
 * (`prev`), so the batch in front of it ends at that place; the newest batch ends at the fence's last place. A batch
 * is covered when X has reached the place at which it ends: then each of its rows is loaded, and what it dropped or
 * found twice is covered with it, however many such offsets follow the last row. That needs no look at what is
 * produced or in flight, so live traffic never looks like a loss: what is on its way ends behind X.
 * Cost: two look-ups in an index per raw partition, however many receipts there are.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { comparePlaces, type Place, TOPICS } from '../event/index.ts'

export type LaneProgress = {
  logId: string
  topic: string
  partition: number
  /** Decided below. */
  nextOffset: number
  /** Acknowledged in the row topics below. */
  producedThrough: number
  /** Below: every row of every offset is loaded. At the end of a receipt. */
  loadedThrough: number
}

type FenceRow = {
  log_id: string
  partition: number
  topic: string
  next_offset: number
  produced_through: number
  last_offset: number | null
  last_sub: number | null
}
type LastPlaces = Record<string, [number, number]>
type LoadRange = { topic: string; partition: number; last: LastPlaces }

export async function readProgress(sql: Sql): Promise<LaneProgress[]> {
  return guardState('read the ledger', () =>
    transaction(
      sql,
      async (tx) => {
        const fences = await tx<FenceRow[]>`
        SELECT log_id, partition, topic, next_offset, produced_through, last_offset, last_sub
        FROM ingest_fence ORDER BY topic, partition, log_id`
        const loaded = await tx<{ partition: number; last: LastPlaces }[]>`
        SELECT partition, last FROM load_fence WHERE topic = ${TOPICS.events}`
        const open = await tx<{ ranges: LoadRange[] }[]>`
        SELECT ranges FROM load_intent WHERE state = 'open' AND table_name = 'events'`
        const openRanges = open.flatMap(({ ranges }) => ranges)
        const lanes: LaneProgress[] = []
        for (const fence of fences) {
          const loadedPlace = placeLoaded(fence, loaded, openRanges)
          lanes.push({
            logId: fence.log_id,
            topic: fence.topic,
            partition: fence.partition,
            nextOffset: fence.next_offset,
            producedThrough: fence.produced_through,
            loadedThrough: await loadedThrough(tx, fence, loadedPlace),
          })
        }
        return lanes
      },
      'isolation level repeatable read read only',
    ),
  )
}

/** The last row that is in ClickHouse, as far as the load knows. */
function placeLoaded(
  lane: { log_id: string; partition: number },
  loaded: { partition: number; last: LastPlaces }[],
  open: LoadRange[],
): Place | undefined {
  let reached: Place | undefined
  for (const fence of loaded) {
    const at = placeIn(fence.last, lane.log_id)
    if (fence.partition === lane.partition && at && (!reached || comparePlaces(at, reached) > 0)) reached = at
  }
  for (const range of open) {
    if (range.topic !== TOPICS.events || range.partition !== lane.partition) continue
    const before = placeIn(range.last, lane.log_id)
    if (!before) return undefined
    if (reached && comparePlaces(before, reached) < 0) reached = before
  }
  return reached
}

function placeIn(last: LastPlaces, logId: string): Place | undefined {
  const entry = last[logId]
  return entry && { offset: entry[0], sub: entry[1] }
}

/** The end of the last receipt whose last row is loaded; see the module comment. */
async function loadedThrough(
  tx: Transaction,
  fence: FenceRow,
  loadedPlace: Place | undefined,
): Promise<number> {
  const { log_id, partition } = fence
  const at = loadedPlace ?? { offset: -1, sub: 0 }
  // The first batch that begins behind a row that is not loaded: the one in front of it ends there, too.
  const [beyond] = await tx<{ from_offset: number }[]>`
    SELECT from_offset FROM receipt
    WHERE log_id = ${log_id} AND partition = ${partition} AND from_offset > ${at.offset}
      AND (prev_offset, prev_sub) > (${at.offset}::bigint, ${at.sub}::int)
    ORDER BY from_offset LIMIT 1`
  const [newest] = await tx<{ from_offset: number; to_offset: number }[]>`
    SELECT from_offset, to_offset FROM receipt
    WHERE log_id = ${log_id} AND partition = ${partition} AND from_offset < ${beyond?.from_offset ?? Number.MAX_SAFE_INTEGER}
    ORDER BY from_offset DESC LIMIT 1`
  if (!newest) return 0
  if (beyond) return newest.from_offset
  // Without a successor it is the newest batch, unless its successor's receipt is missing: then its end is unknown.
  const end = fence.last_offset === null ? undefined : { offset: fence.last_offset, sub: fence.last_sub! }
  const isLoaded = !end || comparePlaces(end, at) <= 0
  return isLoaded && newest.to_offset === fence.next_offset ? newest.to_offset : newest.from_offset
}
