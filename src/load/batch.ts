/**
 * The rows of one INSERT, and how they are made again from the log by an heir: the same records, judged by the same
 * chain, in the same order, so that they are the same bytes. Costs a read of the ranges, at most 128 MB.
 */
import { TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { extendChecksum, finishChecksum } from './cut.ts'
import { loadError } from './errors.ts'
import type { FenceMove, Intent, IntentRange, LastPlaces } from './intent.ts'
import { advance, type BufferedRow, PartitionInput } from './partition-input.ts'

export type BatchRange = FenceMove & { rows: BufferedRow[] }

export type Batch = {
  table: string
  ranges: BatchRange[]
  rows: BufferedRow[]
  bytes: number
  checksum: number
}

/** Lines up the rows of `ranges` in their order. */
export function makeBatch(table: string, ranges: BatchRange[]): Batch {
  const rows = ranges.length === 1 ? ranges[0]!.rows : ranges.flatMap((range) => range.rows)
  let checksum = 0n
  let bytes = 0
  for (const { row } of rows) {
    checksum = extendChecksum(checksum, row)
    bytes += row.length
  }
  return { table, ranges, rows, bytes, checksum: finishChecksum(checksum) }
}

/** The promise of this batch. */
export function intentOf(batch: Batch, id: string, parent?: string): Intent {
  return {
    id,
    parent,
    table: batch.table,
    ranges: batch.ranges.map(({ range }) => range),
    rows: batch.rows.length,
    bytes: batch.bytes,
    checksum: batch.checksum,
  }
}

/**
 * Reads the batch of an intent again. Throws HR_LOAD_BYTES_DIFFER when the log gives something else than what the
 * intent was written for, HR_LOG_OUT_OF_RANGE when it holds it no longer, HR_LOG_UNAVAILABLE (retriable).
 */
export async function rebuildBatch(log: Log, intent: Intent, logIds: Map<string, string>): Promise<Batch> {
  const ranges: BatchRange[] = []
  for (const range of intent.ranges) {
    const logId = logIds.get(range.topic)
    if (logId !== range.logId) {
      throw differ(
        intent,
        `topic ${range.topic} now has id ${logId ?? 'none'}, the intent was written under ${range.logId}`,
      )
    }
    ranges.push(await rereadRange(log, range))
  }
  const batch = makeBatch(intent.table, ranges)
  if (
    batch.rows.length !== intent.rows ||
    batch.bytes !== intent.bytes ||
    batch.checksum !== intent.checksum
  ) {
    throw differ(
      intent,
      `the log gives ${batch.rows.length} rows, ${batch.bytes} bytes, checksum ${batch.checksum}; promised were ${intent.rows}, ${intent.bytes}, ${intent.checksum}`,
    )
  }
  return batch
}

async function rereadRange(log: Log, range: IntentRange): Promise<BatchRange> {
  const input = inputOf(range)
  for await (const records of log.read(range.topic, range.partition, range.from, range.to)) {
    input.accept(records)
  }
  return input.cut(input.waiting.length)
}

function inputOf(range: IntentRange): PartitionInput {
  const { logId, topic, partition, from, last } = range
  return new PartitionInput({ logId, topic, partition, chained: isChained(range) }, { next: from, last })
}

function isChained({ topic }: IntentRange): boolean {
  return topic === TOPICS.events
}

function differ(intent: Intent, what: string) {
  return loadError(
    'HR_LOAD_BYTES_DIFFER',
    `load intent ${intent.id} of ${intent.table} cannot be sent again: ${what}`,
  )
}

/**
 * Cuts a batch of at least two rows into two with half of the rows each, along its ranges: the way by which one bad
 * row is found in log2(n) steps.
 */
export function halveBatch(batch: Batch): [Batch, Batch] {
  const half = batch.rows.length >> 1
  const first: BatchRange[] = []
  const second: BatchRange[] = []
  let count = 0
  for (const part of batch.ranges) {
    const wanted = half - count
    count += part.rows.length
    // Copies without a row go with what is in front of them.
    if (count <= half) first.push(part)
    else if (wanted <= 0) second.push(part)
    else {
      const [a, b] = splitRange(part, wanted)
      first.push(a)
      second.push(b)
    }
  }
  return [makeBatch(batch.table, first), makeBatch(batch.table, second)]
}

/** Cuts a batch into pieces of at most `bytesMax`, or of one row. */
export function piecesOf(batch: Batch, bytesMax: number): Batch[] {
  if (batch.bytes <= bytesMax || batch.rows.length < 2) return [batch]
  return halveBatch(batch).flatMap((half) => piecesOf(half, bytesMax))
}

function splitRange(part: BatchRange, count: number): [BatchRange, BatchRange] {
  const first = sliceRange(part, 0, count, part.range.last)
  return [first, sliceRange(part, count, part.rows.length, first.lastAfter)]
}

/** Its rows from number `from` to before number `to`, with the copies behind them; `last`: the places in front of them. */
function sliceRange({ range, rows }: BatchRange, from: number, to: number, last: LastPlaces): BatchRange {
  const taken = rows.slice(from, to)
  return {
    range: {
      ...range,
      from: from === 0 ? range.from : rows[from]!.offset,
      to: to === rows.length ? range.to : rows[to]!.offset,
      last,
    },
    lastAfter: isChained(range) ? advance(last, taken) : last,
    rows: taken,
  }
}

/**
 * The first row of each month, and all the others. Whoever has had the first rows inserted under a token has used it up:
 * ClickHouse takes nothing more into these months under it. `others` is empty when there is nothing else.
 */
export function takeHeads(batch: Batch): { heads: Batch; others: Batch } {
  const months = new Set<number>()
  const heads = new Set<BufferedRow>()
  for (const row of batch.rows) {
    if (months.has(row.month)) continue
    months.add(row.month)
    heads.add(row)
  }
  return {
    heads: onlyRows(batch, (row) => heads.has(row)),
    others: onlyRows(batch, (row) => !heads.has(row)),
  }
}

/** A batch of its rows that are `wanted`. */
function onlyRows(batch: Batch, wanted: (row: BufferedRow) => boolean): Batch {
  return makeBatch(
    batch.table,
    batch.ranges.flatMap((part) => runsOf(part, wanted)),
  )
}

/** Rows by month: what ClickHouse takes as one block. */
export function byMonth(rows: readonly BufferedRow[]): BufferedRow[][] {
  return [...Map.groupBy(rows, ({ month }) => month).values()]
}

/** The rows of a range that are `wanted`, as ranges without the others. */
function runsOf(part: BatchRange, wanted: (row: BufferedRow) => boolean): BatchRange[] {
  const { rows, range } = part
  const runs: BatchRange[] = []
  let { last } = range
  for (let from = 0, to = 0; from < rows.length; from = to) {
    const isWanted = wanted(rows[from]!)
    do to++
    while (to < rows.length && wanted(rows[to]!) === isWanted)
    const run = sliceRange(part, from, to, last)
    if (isWanted) runs.push(run)
    last = run.lastAfter
  }
  return runs
}
