/**
 * Which of a batch's rows are in ClickHouse already: asked before anything is sent a second time, because an insert
 * token is remembered for a limited number of inserts only. In: rows of `events`, per raw partition in source order.
 * Cost: one query per raw partition of the batch, on the projection by source.
 */
import { type Place, sourceHash } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { ask } from './ask.ts'
import type { BufferedRow } from './partition-input.ts'

/** `all`: each row once. `some`: anything else but none: rows are missing, or there twice. */
export type Presence = 'all' | 'none' | 'some'

type Expected = {
  logId: string
  partition: number
  first: Place
  last: Place
  rows: number
  hashSum: number
}

/**
 * Since rows of a raw partition are cut in source order, no other batch has a row between the first and the last of
 * this one: what lies between must be exactly these.
 */
export async function askPresence(warehouse: Warehouse, rows: readonly BufferedRow[]): Promise<Presence> {
  let all = true
  let none = true
  for (const expected of expectedOf(rows)) {
    const [found] = await ask<{ copies: number; sources: number; hash_sum: number }>(
      warehouse,
      `SELECT sum(copies) AS copies, count() AS sources,
         sum(xxHash32(concat(toString(_offset), ':', toString(_sub)))) AS hash_sum
       FROM (SELECT _offset, _sub, count() AS copies FROM events
         WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16}
           AND _offset >= {from:UInt64} AND _offset <= {to:UInt64}
           AND (_offset, _sub) >= ({from:UInt64}, {fromSub:UInt16}) AND (_offset, _sub) <= ({to:UInt64}, {toSub:UInt16})
         GROUP BY _offset, _sub)`,
      {
        logId: expected.logId,
        partition: expected.partition,
        from: expected.first.offset,
        fromSub: expected.first.sub,
        to: expected.last.offset,
        toSub: expected.last.sub,
      },
    )
    const { copies, sources, hash_sum } = found!
    if (copies !== 0) none = false
    if (copies !== expected.rows || sources !== expected.rows || hash_sum !== expected.hashSum) all = false
  }
  return all ? 'all' : none ? 'none' : 'some'
}

function expectedOf(rows: readonly BufferedRow[]): Expected[] {
  const byPartition = new Map<string, Expected>()
  for (const { source } of rows) {
    const key = `${source.logId}/${source.partition}`
    const known = byPartition.get(key)
    if (!known) {
      const { logId, partition } = source
      byPartition.set(key, {
        logId,
        partition,
        first: source,
        last: source,
        rows: 1,
        hashSum: sourceHash(source),
      })
      continue
    }
    known.last = source
    known.rows++
    known.hashSum += sourceHash(source)
  }
  return [...byPartition.values()]
}
