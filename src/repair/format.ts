/** Repairs as text for a terminal. Pure. */
import type { GapRepair, LostRange } from './gap.ts'
import { type Inspection, isOutOfStep } from './inspect.ts'
import type { Rewind } from './rewind.ts'

export function formatInspection({ gaps, rewind, refusals }: Inspection): string {
  const lines = refusals.map(({ code, message }) => `${message} (${code})`)
  if (gaps.length > 0)
    lines.push(
      formatGaps(gaps, false),
      'Give it up with: headrace repair gap --all --accept-loss (shows it), then with --yes',
    )
  if (rewind && isOutOfStep(rewind))
    lines.push(formatRewind(rewind, false), 'Mend it with: headrace repair rewind --yes')
  return lines.length > 0 ? lines.join('\n') : 'nothing to repair: ingest and load can go on where they stand'
}

export function formatGaps(repairs: readonly GapRepair[], applied: boolean): string {
  if (repairs.length === 0) return 'no gap: every raw partition can be read on where ingest stands'
  const lines = repairs.flatMap(({ topic, partition, lost, kept, goesOnAt }) => [
    ...lost.map(lossLine),
    ...kept.map(
      ({ logId, from, to }) =>
        `${topic}/${partition}  kept: offsets ${from} to ${to - 1} of log ${logId} were decided in a time that Postgres lost; their rows stay as they are, but what they did to persons and groups cannot be made again (a newer backup of Postgres still has it)`,
    ),
    `${topic}/${partition}  ${applied ? 'goes' : 'would go'} on at offset ${goesOnAt}`,
  ])
  const known = repairs
    .flatMap(({ lost }) => lost)
    .reduce((sum, { from, to }) => sum + (to === undefined ? 0 : to - from), 0)
  const open = repairs.some(({ lost }) => lost.some(({ to }) => to === undefined))
  lines.push(
    `${known} acknowledged records are lost${open ? ', and an unknown number in logs that are gone' : ''}; ${
      applied
        ? 'the ledger says so (headrace audit). Ingest goes on within 10 s.'
        : 'nothing was changed (without --yes)'
    }`,
  )
  return lines.join('\n')
}

function lossLine({ topic, partition, logId, from, to, cause, lastDecidedMs, goesOnMs }: LostRange): string {
  const what =
    to === undefined
      ? `offset ${from} up to the end of log ${logId}, which is gone: how many is not known`
      : `offsets ${from} to ${to - 1} of log ${logId}, at most ${to - from} records`
  const why =
    cause === 'recreated' ? 'the topic was recreated' : 'retention removed them before they were read'
  return `${topic}/${partition}  lost: ${what}; ${why}; sent ${between(lastDecidedMs, goesOnMs)}`
}

function between(fromMs: number | undefined, toMs: number | undefined): string {
  const after = fromMs === undefined ? 'at any time' : `after about ${new Date(fromMs).toISOString()}`
  return toMs === undefined ? after : `${after} and before ${new Date(toMs).toISOString()}`
}

export function formatRewind(rewind: Rewind, applied: boolean): string {
  if (!isOutOfStep(rewind)) return 'Postgres is not behind the log or ClickHouse: nothing to mend'
  const lines = rewind.lanes.map(
    ({ topic, partition, from, to, decided }) =>
      `${topic}/${partition}  offsets ${from} to ${to - 1} were decided in the time that Postgres lost (${decided} of ${to - from} known): they ${applied ? 'are' : 'would be'} decided again the same way`,
  )
  for (const { partition, from, to, inserted } of rewind.load)
    lines.push(
      `events/${partition}  ClickHouse has the rows of offsets ${from} to ${to - 1}: the load progress ${applied ? 'was' : 'would be'} brought there${inserted > 0 ? `, ${inserted} missing rows ${applied ? 'were' : 'would be'} inserted` : ''}`,
    )
  if (rewind.state > 0)
    lines.push(
      `${rewind.state} persons, distinct ids and groups ${applied ? 'are' : 'would be'} sent again under higher versions`,
    )
  lines.push(applied ? 'Ingest and load go on within 10 s.' : 'nothing was changed (without --yes)')
  return lines.join('\n')
}
