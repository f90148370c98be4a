/**
 * Makes missing rows: from the row topics while they hold them, as ClickHouse had them; else from raw records and
 * receipts, stamped with persons as they are now; of what neither holds it says why. In: places of one raw partition and
 * table. Out: rows, in groups that one insert takes (bytes, rows, months), and at the end the places that are gone.
 */
import {
  DEAD_LETTERS,
  decodeRowHeader,
  INGESTION_WARNINGS,
  type Place,
  type Table,
  TOPICS,
  writerPartition,
} from '../event/index.ts'
import { type RemakeDeps, remakeRows, type Unmakeable } from '../ingest/index.ts'
import { keyOf, type LogRow, type RowTopicPart, rowsInLog } from './log-rows.ts'
import type { RowKind } from './warehouse-plan.ts'

export type MadeRow = LogRow
export type LaneOf = { topic: string; logId: string; partition: number }
export type MadeRows = { table: Table; rows: MadeRow[]; from: 'log' | 'raw' }

const GROUP_ROWS_MAX = 20_000
const GROUP_BYTES_MAX = 16 * 2 ** 20
/** Each is a block, a part and an entry of ClickHouse's window of tokens. */
const GROUP_MONTHS_MAX = 50

/** Yields rows; returns the places that nothing can be made of. */
export async function* makeRows(
  deps: RemakeDeps,
  lane: LaneOf,
  kind: RowKind,
  places: readonly Place[],
): AsyncGenerator<MadeRows, Map<Place, Unmakeable>> {
  const left = new Map(places.map((place) => [keyOf(place), place]))
  yield* fromLog(deps, lane, kind, left, false)
  const unmakeable = yield* fromRaw(deps, lane, kind, left)
  // A place that copies of a replay hid from the first look.
  if (left.size > 0) yield* fromLog(deps, lane, kind, left, true)
  return new Map([...left.values()].map((place) => [place, unmakeable.get(place.offset) ?? 'not_in_the_log']))
}

async function* fromLog(
  deps: RemakeDeps,
  lane: LaneOf,
  kind: RowKind,
  left: Map<string, Place>,
  thorough: boolean,
): AsyncGenerator<MadeRows> {
  for (const part of partsOf(kind, lane.partition, deps.partitions)) {
    const group = new Group(kind.table, 'log')
    for await (const row of rowsInLog(deps.log, part, lane, [...left.values()], thorough)) {
      if (!left.delete(keyOf(row))) continue
      const full = group.add(row)
      if (full) yield full
    }
    const rest = group.take()
    if (rest) yield rest
  }
}

/** Both writing roles of a partition number: what ClickHouse refused is told by load. */
function partsOf({ topic }: RowKind, partition: number, partitions: number): RowTopicPart[] {
  const parts = new Set([
    writerPartition(topic, 'ingest', partition, partitions),
    writerPartition(topic, 'load', partition, partitions),
  ])
  return [...parts].map((part) => ({ topic, partition: part }))
}

/** The warnings of an offset come along, since no receipt says that they are missing. */
async function* fromRaw(
  deps: RemakeDeps,
  lane: LaneOf,
  kind: RowKind,
  left: Map<string, Place>,
): AsyncGenerator<MadeRows, Map<number, Unmakeable>> {
  const unmakeable = new Map<number, Unmakeable>()
  const offsets = [...new Set([...left.values()].map(({ offset }) => offset))].sort((a, b) => a - b)
  const rows = new Group(kind.table, 'raw')
  const warnings = new Group(INGESTION_WARNINGS, 'raw')
  for await (const remade of remakeRows(deps, lane, offsets)) {
    for (const [offset, why] of remade.unmakeable) unmakeable.set(offset, why)
    for (const { topic, header, value } of remade.records) {
      const { source, timestampMs } = decodeRowHeader(header)
      const row = { offset: source.offset, sub: source.sub, row: value, timestampMs }
      const full =
        topic === kind.topic && left.delete(keyOf(row))
          ? rows.add(row)
          : topic === TOPICS.ingestionWarnings && kind.table !== DEAD_LETTERS
            ? warnings.add(row)
            : undefined
      if (full) yield full
    }
  }
  for (const group of [rows, warnings]) {
    const rest = group.take()
    if (rest) yield rest
  }
  return unmakeable
}

/** Gathers rows of one table until one insert has enough. */
class Group {
  private rows: MadeRow[] = []
  private bytes = 0
  private months = new Set<string>()

  constructor(
    private readonly table: Table,
    private readonly from: MadeRows['from'],
  ) {}

  /** A full group, without this row. */
  add(row: MadeRow): MadeRows | undefined {
    const month = monthOf(row.timestampMs)
    const fits =
      this.rows.length < GROUP_ROWS_MAX &&
      this.bytes + row.row.length <= GROUP_BYTES_MAX &&
      (this.months.has(month) || this.months.size < GROUP_MONTHS_MAX)
    const full = fits ? undefined : this.take()
    this.rows.push(row)
    this.bytes += row.row.length
    this.months.add(month)
    return full
  }

  take(): MadeRows | undefined {
    if (this.rows.length === 0) return undefined
    const { table, rows, from } = this
    this.rows = []
    this.bytes = 0
    this.months = new Set()
    return { table, rows, from }
  }
}

/** As ClickHouse divides `events`; its times are clamped to four digits of a year. */
function monthOf(timestampMs: number): string {
  const date = new Date(Math.min(Math.max(timestampMs, Date.UTC(1900)), Date.UTC(2299, 11, 31)))
  return date.toISOString().slice(0, 7)
}
