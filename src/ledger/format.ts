/** The audit and the trace as text for a terminal and as data for scripts. Pure. */
import { columns, printable } from '../event/index.ts'
import type { AuditReport, PartitionAudit } from './audit.ts'
import { FINDING_KINDS } from './findings.ts'
import type { AcceptedLoss } from './losses.ts'
import type { OutcomeCount } from './period.ts'
import type { RecentEvent } from './recent.ts'
import { SPOOL_FINDINGS, type SpoolAudit } from './spools.ts'
import type { Trace } from './trace.ts'
import type { TraceEntry } from './trace-entries.ts'

/** Findings that are printed; JSON has them all. */
const FINDINGS_SHOWN = 50
const CELL_UNITS_MAX = 60

/** One line per raw partition that holds anything, then what does not add up. */
export function formatAudit(report: AuditReport): string {
  const shown = report.partitions.filter((partition) => partition.receivedThrough > 0)
  const head = [
    'topic',
    'partition',
    'audited',
    'stored',
    'duplicate',
    'dropped',
    'dead',
    'lost',
    'erased',
    'expired',
    'rows due',
    'in ClickHouse',
    'outcomes',
    'on the way',
    'verdict',
  ]
  const lines = columns([head, ...shown.map(auditLine), totalLine(shown)])
  const findings = report.partitions.flatMap(({ topic, partition, findings }) =>
    findings.map(
      ({ kind, from, to, detail }) =>
        `${topic}/${partition} ${range(from, to)}  ${kind}: ${detail}. ${FINDING_KINDS[kind]}`,
    ),
  )
  if (findings.length > 0) lines.push('', ...findings.slice(0, FINDINGS_SHOWN))
  if (findings.length > FINDINGS_SHOWN) lines.push(`… and ${findings.length - FINDINGS_SHOWN} more (--json)`)
  lines.push(...lossLines(report.losses), ...spoolLines(report.spools))
  const cut = report.partitions.some((partition) => partition.cut) ? ' or more' : ''
  lines.push(
    '',
    report.exact ? 'exact: every audited offset is accounted for' : doubt(report.unaccounted, cut),
  )
  return lines.join('\n')
}

/** Why the audit does not say that all is well. */
function doubt(unaccounted: number, cut: string): string {
  return unaccounted > 0
    ? `${unaccounted}${cut} offsets do not add up; what to do: docs/runbooks/ledger.md#unaccounted`
    : 'the rows are exact; what was dropped, found twice or dead-lettered was not compared everywhere, since it is still on its way to ClickHouse: wait longer with --wait, or see docs/runbooks/load.md'
}

/** What became of the events of a period, over all its hours. */
export function formatOutcomeCounts(counts: readonly OutcomeCount[]): string {
  const sums = new Map<string, { cells: string[]; events: number }>()
  for (const { project, sdk, state, reason, events } of counts) {
    const cells = [project ?? '(none)', sdk === '' ? '(unknown)' : sdk, state, reason]
    const key = JSON.stringify(cells)
    const sum = sums.get(key)
    if (sum) sum.events += events
    else sums.set(key, { cells, events })
  }
  const rows = [...sums.values()].map(({ cells, events }) => [...cells, String(events)])
  const total = [...sums.values()].reduce((sum, { events }) => sum + events, 0)
  const head = ['project', 'SDK', 'end state', 'reason', 'events']
  return columns([head, ...rows, ['all', '', '', '', String(total)]]).join('\n')
}

/** What was given up: no finding, since it is accounted for, but never to be forgotten. */
function lossLines(losses: readonly AcceptedLoss[]): string[] {
  if (losses.length === 0) return []
  return ['', ...losses.map(formatLoss)]
}

function formatLoss({ topic, partition, logId, from, to, cause, acceptedMs }: AcceptedLoss): string {
  const which = to === undefined ? `from offset ${from} on, how many is not known` : range(from, to)
  const why = {
    recreated: `the topic was recreated (log id ${logId} is gone)`,
    retention: 'retention removed them before ingest read them',
    warehouse: 'ClickHouse lost rows that no log holds any more',
  }[cause]
  return `${topic}/${partition} ${which}  lost: ${why}; accepted ${new Date(acceptedMs).toISOString()}`
}

/** The spools that are of interest, then what is wrong with each; nothing when all are empty and heard of. */
function spoolLines(spools: readonly SpoolAudit[]): string[] {
  const found = spools.filter(({ finding }) => finding !== undefined)
  if (found.length === 0) return []
  const head = ['spool', 'host', 'state', 'accepted', 'drained', 'held', 'bytes', 'heard of', 'folder']
  const rows = found.map((spool) => [
    spool.id,
    spool.host,
    spool.state,
    ...[spool.accepted, spool.drained, spool.held, spool.bytes].map(String),
    `${Math.round(spool.silentS)} s ago`,
    spool.folder,
  ])
  const sentences = found.map(({ id, finding }) => `spool ${id}  ${finding}: ${SPOOL_FINDINGS[finding!]}`)
  return ['', ...columns([head, ...rows]), '', ...sentences]
}

function auditLine(audit: PartitionAudit): string[] {
  return [
    audit.topic,
    String(audit.partition),
    audit.through === audit.from ? 'none' : range(audit.from, audit.through),
    ...counts(audit),
    audit.findings.length > 0 ? `${audit.findings.length} findings` : 'exact',
  ]
}

function counts(audit: PartitionAudit): string[] {
  const { stored, duplicate, dropped, deadLettered, lost, erased, expired, rowsExpected, rowsPresent } = audit
  return [
    ...[stored, duplicate, dropped, deadLettered, lost, erased, expired, rowsExpected, rowsPresent].map(
      String,
    ),
    audit.outcomesCompared ? `${audit.outcomesPresent}/${audit.outcomesExpected}` : 'on the way',
    String(audit.receivedThrough - audit.through),
  ]
}

function totalLine(audits: readonly PartitionAudit[]): string[] {
  const sum = (of: (audit: PartitionAudit) => number) => audits.reduce((total, audit) => total + of(audit), 0)
  return [
    'all',
    '',
    String(sum(({ from, through }) => through - from)),
    String(sum(({ stored }) => stored)),
    String(sum(({ duplicate }) => duplicate)),
    String(sum(({ dropped }) => dropped)),
    String(sum(({ deadLettered }) => deadLettered)),
    String(sum(({ lost }) => lost)),
    String(sum(({ erased }) => erased)),
    String(sum(({ expired }) => expired)),
    String(sum(({ rowsExpected }) => rowsExpected)),
    String(sum(({ rowsPresent }) => rowsPresent)),
    `${sum(({ outcomesPresent }) => outcomesPresent)}/${sum(({ outcomesExpected }) => outcomesExpected)}`,
    String(sum(({ receivedThrough, through }) => receivedThrough - through)),
    '',
  ]
}

function range(from: number, to: number): string {
  return to - from === 1 ? `offset ${from}` : `${from}..${to - 1}`
}

/** A readable timeline; one block per raw record that carried the uuid. */
export function formatTrace(trace: Trace): string {
  if (!trace.found) return `${trace.uuid}: not found. ${trace.says}`
  const blocks = trace.sources.map(({ source, topic, entries }) =>
    [`${topic ?? 'an earlier topic'} ${source}`, ...entries.map(formatEntry)].join('\n'),
  )
  return [trace.uuid, ...blocks].join('\n\n')
}

function formatEntry({ atMs, says, fields }: TraceEntry): string {
  const time = atMs === undefined ? ' '.repeat(24) : new Date(atMs).toISOString()
  const more = Object.entries(fields)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${printable(String(value))}`)
  return [
    `  ${time}  ${printable(says)}`,
    ...(more.length > 0 ? [`  ${' '.repeat(24)}    ${more.join(' · ')}`] : []),
  ].join('\n')
}

/** Head and rows of a table. */
export function recentTable(
  events: readonly RecentEvent[],
  nameOf: (teamId: number) => string | undefined,
): { head: string[]; rows: string[][] } {
  return {
    head: ['TIME', 'PROJECT', 'EVENT', 'DISTINCT ID', 'STATE', 'REASON', 'UUID'],
    rows: events.map((one) => [
      new Date(one.atMs).toISOString(),
      nameOf(one.teamId) ?? '-',
      printable(one.event.slice(0, CELL_UNITS_MAX)),
      printable(one.distinctId.slice(0, CELL_UNITS_MAX)),
      one.state,
      one.reason,
      one.uuid,
    ]),
  }
}
