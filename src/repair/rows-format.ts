/** A repair of rows as text for a terminal. Pure. */
import { columns } from '../event/index.ts'
import { type LaneRepair, type TableRepair, UNMAKEABLE } from './warehouse-lane.ts'
import type { RowsRepair } from './warehouse-rows.ts'

/** Ranges that are printed; JSON has them all. */
const LEFT_SHOWN = 20

const COLUMNS = [
  'missing',
  'fromLog',
  'fromRaw',
  'expired',
  'refused',
  'gone',
  'doubled',
  'unexpected',
] as const
const HEADS = ['missing', 'from topics', 'from raw', 'expired', 'refused', 'gone', 'doubled', 'unexpected']

/** One line for each raw partition and table in which anything was wrong, then what is left. */
export function formatRows(repair: RowsRepair): string {
  const { applied, lanes, warnings, doubledLeft, state, intents, attempts, fenced } = repair
  const wrong = lanes.flatMap((lane) => lane.tables.filter(isWrong).map((table) => ({ lane, table })))
  const lines: string[] = []
  if (wrong.length > 0) {
    const cells = wrong.map(({ lane, table }) => [
      `${lane.topic}/${lane.partition}`,
      table.table,
      ...COLUMNS.map((column) => String(table[column])),
    ])
    lines.push(...columns([['raw partition', 'table', ...HEADS], ...cells]), '')
  }
  if (attempts > 0) lines.push(`${attempts} inserts of an earlier repair were cut off, and are settled`)
  if (fenced > 0) lines.push(`${fenced} rows of inserts that load had handed over were sent as these`)
  if (warnings > 0) lines.push(`${warnings} ingestion warnings ${were(applied)} inserted`)
  const doubled = wrong.reduce((sum, { table }) => sum + table.doubled, 0)
  if (doubled > 0)
    lines.push(
      `${doubled} rows that were there more than once: the later copies ${were(applied)} deleted${doubledLeft > 0 ? `; ${doubledLeft} are there more than once still` : ''}`,
    )
  if (state && state.persons + state.overrides + state.groups > 0)
    lines.push(
      `${state.persons} persons, ${state.overrides} id overrides and ${state.groups} groups ${were(applied)} written as they are in Postgres now`,
    )
  if (intents.settled > 0)
    lines.push(`${intents.settled} inserts that load had handed over ${were(applied)} settled`)
  if (intents.left > 0)
    lines.push(
      `${intents.left} inserts that load had handed over are not settled: what they cover was not compared as a whole, or is not right yet`,
    )
  lines.push(...onTheWay(lanes), ...leftLines(lanes), verdict(repair))
  return lines.join('\n')
}

function were(applied: boolean): string {
  return applied ? 'were' : 'would be'
}

function isWrong(table: TableRepair): boolean {
  return table.missing + table.doubled + table.unexpected > 0
}

function onTheWay(lanes: readonly LaneRepair[]): string[] {
  const some = lanes.filter(({ othersCompared }) => !othersCompared)
  if (some.length === 0) return []
  return [
    `rows of outcomes and dead letters were on their way in ${some.length} raw partitions and were not compared; let the role load catch up, and look again`,
  ]
}

function leftLines(lanes: readonly LaneRepair[]): string[] {
  const left = lanes.flatMap((lane) =>
    lane.leftOver.map(
      ({ table, from, to, why }) =>
        `${lane.topic}/${lane.partition} ${to - from === 1 ? `offset ${from}` : `${from}..${to - 1}`}  ${table === 'receipt' ? 'not compared' : table}: ${why}`,
    ),
  )
  const lines = left.slice(0, LEFT_SHOWN)
  if (left.length > LEFT_SHOWN) lines.push(`… and ${left.length - LEFT_SHOWN} more (--json)`)
  if (lanes.some(({ leftOver }) => leftOver.some(({ why }) => why === UNMAKEABLE.not_in_the_log)))
    lines.push('what no log holds can be given up with --accept-loss; the ledger names it for ever')
  const unexpected = lanes.some(({ tables }) => tables.some((table) => table.unexpected > 0))
  if (unexpected) lines.push('rows that no receipt knows of go with --delete-unexpected only')
  return lines
}

function verdict({ applied, found, left }: RowsRepair): string {
  if (!found && left) return 'nothing to repair in what could be compared'
  if (!found) return 'nothing to repair: ClickHouse agrees with the receipts below the load progress'
  if (!applied) return 'nothing was changed (without --yes)'
  return left
    ? 'some of it is left; see above'
    : 'done: ClickHouse agrees with the receipts below the load progress (headrace audit)'
}
