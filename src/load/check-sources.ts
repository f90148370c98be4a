/**
 * Which of a batch's rows are in ClickHouse already: asked before anything is sent a second time, because an insert
 * token is remembered for a limited number of inserts only. In: rows of `events`, per raw partition in source order.
 * What must hold: ClickHouse takes the rows of one month as one block, whole or not at all, and that an insert is there
 * in part is that some of its months are; anything else is not explained by inserts of ours, and nothing is sent then.
 * Cost: one query per raw partition of the batch, on the projection by source; another that lists the places when a part
 * is there.
 */
import { comparePlaces, type Place, sourceHash } from '../event/index.ts'
import type { QueryParameters, Warehouse } from '../warehouse/index.ts'
import { ask } from './ask.ts'
import type { BufferedRow } from './partition-input.ts'

type Expected = {
  logId: string
  partition: number
  first: Place
  last: Place
  rows: BufferedRow[]
  hashSum: number
}

const BETWEEN = `_log_id = {logId:UUID} AND _partition = {partition:UInt16}
  AND _offset >= {from:UInt64} AND _offset <= {to:UInt64}
  AND (_offset, _sub) >= ({from:UInt64}, {fromSub:UInt16}) AND (_offset, _sub) <= ({to:UInt64}, {toSub:UInt16})`

/**
 * The rows that are not there, of each month all or none; undefined when that cannot be said: a month is there in part, or
 * a row is there twice.
 */
export async function absentRows(
  warehouse: Warehouse,
  rows: readonly BufferedRow[],
): Promise<readonly BufferedRow[] | undefined> {
  const expected = expectedOf(rows)
  const presence = await askPresence(warehouse, expected)
  if (presence === 'all') return []
  if (presence === 'none') return rows
  const there = new Set<BufferedRow>()
  for (const one of expected) if (!(await addPresent(warehouse, one, there))) return undefined
  const months = new Map<number, boolean>()
  for (const row of rows) {
    const isThere = there.has(row)
    if ((months.get(row.month) ?? isThere) !== isThere) return undefined
    months.set(row.month, isThere)
  }
  return rows.filter((row) => !there.has(row))
}

/**
 * `all`: each row once and nothing else. Since rows of a raw partition are cut in source order, what lies between the first
 * and the last of these is nearly always exactly these; only of an insert that was cut up, others lie between.
 */
async function askPresence(
  warehouse: Warehouse,
  batch: readonly Expected[],
): Promise<'all' | 'none' | 'some'> {
  let all = true
  let none = true
  for (const expected of batch) {
    const [found] = await ask<{ copies: number; sources: number; hash_sum: number }>(
      warehouse,
      `SELECT sum(copies) AS copies, count() AS sources,
         sum(xxHash32(concat(toString(_offset), ':', toString(_sub)))) AS hash_sum
       FROM (SELECT _offset, _sub, count() AS copies FROM events WHERE ${BETWEEN} GROUP BY _offset, _sub)`,
      parametersOf(expected),
    )
    const { copies, sources, hash_sum } = found!
    const { length } = expected.rows
    if (copies !== 0) none = false
    if (copies !== length || sources !== length || hash_sum !== expected.hashSum) all = false
  }
  return all ? 'all' : none ? 'none' : 'some'
}

/** Adds those that are there; false when one is there twice. */
async function addPresent(
  warehouse: Warehouse,
  expected: Expected,
  there: Set<BufferedRow>,
): Promise<boolean> {
  const places = await ask<Place & { copies: number }>(
    warehouse,
    `SELECT _offset AS offset, _sub AS sub, count() AS copies FROM events WHERE ${BETWEEN}
     GROUP BY _offset, _sub ORDER BY _offset, _sub`,
    parametersOf(expected),
  )
  let at = 0
  for (const place of places) {
    while (at < expected.rows.length && comparePlaces(expected.rows[at]!.source, place) < 0) at++
    const row = expected.rows[at]
    if (!row || comparePlaces(row.source, place) !== 0) continue
    if (place.copies > 1) return false
    there.add(row)
  }
  return true
}

function parametersOf({ logId, partition, first, last }: Expected): QueryParameters {
  return {
    logId,
    partition,
    from: first.offset,
    fromSub: first.sub,
    to: last.offset,
    toSub: last.sub,
  }
}

function expectedOf(rows: readonly BufferedRow[]): Expected[] {
  const byPartition = new Map<string, Expected>()
  for (const row of rows) {
    const { source } = row
    const key = `${source.logId}/${source.partition}`
    const known = byPartition.get(key)
    if (!known) {
      const { logId, partition } = source
      byPartition.set(key, {
        logId,
        partition,
        first: source,
        last: source,
        rows: [row],
        hashSum: sourceHash(source),
      })
      continue
    }
    known.last = source
    known.rows.push(row)
    known.hashSum += sourceHash(source)
  }
  return [...byPartition.values()]
}
