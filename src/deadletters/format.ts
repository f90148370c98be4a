/** Dead letters as text for a terminal and as data for scripts. Pure. */
import { formatSource, printable, type RawHeader } from '../event/index.ts'
import type { JobStatus } from './jobs.ts'
import type { Decision, Letter } from './letter.ts'
import type { ShownLetter } from './show.ts'
import type { LetterGroup, Survey } from './survey.ts'

/** Of a project; undefined when it is gone. */
export type NameOf = (teamId: number) => string | undefined

const CELL_UNITS_MAX = 60
const HEX_BYTES_MAX = 1_024

/** Head and rows of a table: one row per project, reason, step and state. */
export function groupTable(
  groups: readonly LetterGroup[],
  nameOf: NameOf,
): { head: string[]; rows: string[][] } {
  return {
    head: ['COUNT', 'PROJECT', 'REASON', 'STEP', 'STATE', 'FIRST', 'LAST', 'FIRST SAMPLE', 'DETAIL'],
    rows: groups.map(({ count, teamId, reason, step, state, firstMs, lastMs, sample }) => [
      String(count),
      projectOf(teamId, nameOf),
      reason,
      step,
      state,
      time(firstMs),
      time(lastMs),
      sample.hasRecord ? sample.uuid : formatSource(sample),
      plain(sample.detail),
    ]),
  }
}

export function letterTable(
  letters: readonly Letter[],
  nameOf: NameOf,
): { head: string[]; rows: string[][] } {
  return {
    head: ['RECEIVED', 'PROJECT', 'REASON', 'STATE', 'EVENT', 'DISTINCT ID', 'UUID', 'SOURCE'],
    rows: letters.map((letter) => [
      time(letter.atMs),
      projectOf(letter.teamId, nameOf),
      letter.reason,
      letter.state,
      plain(letter.event),
      plain(letter.distinctId),
      letter.uuid,
      formatSource(letter),
    ]),
  }
}

export function surveyJson({ total, replayable, groups, newest }: Survey, nameOf: NameOf): object {
  return {
    total,
    replayable,
    groups: groups.map(({ teamId, firstMs, lastMs, withoutRecord, sample, ...group }) => ({
      project: nameOf(teamId) ?? null,
      team_id: teamId,
      ...group,
      not_replayable: withoutRecord,
      first: time(firstMs),
      last: time(lastMs),
      first_sample: letterJson(sample, nameOf),
    })),
    letters: newest.map((letter) => letterJson(letter, nameOf)),
  }
}

function letterJson(letter: Letter, nameOf: NameOf): object {
  return {
    source: formatSource(letter),
    step: letter.step,
    project: nameOf(letter.teamId) ?? null,
    team_id: letter.teamId,
    uuid: letter.uuid,
    event: letter.event,
    distinct_id: letter.distinctId,
    reason: letter.reason,
    detail: letter.detail,
    received: time(letter.atMs),
    bytes: letter.bytes,
    replayable: letter.hasRecord,
    state: letter.state,
    decision: decisionJson(letter.decision),
  }
}

function decisionJson(decision: Decision | undefined): object | null {
  if (!decision) return null
  const { sent } = decision
  return {
    state: decision.state,
    by: decision.by,
    why: decision.why,
    at: time(decision.atMs),
    job: decision.jobId ?? null,
    sent_to: sent ? `${sent.logId}/${sent.partition}/${sent.offset}/0` : null,
    detail: decision.detail,
    history: decision.history,
  }
}

/** `value_base64` has every byte; `value` is there when it is JSON. */
export function shownJson(letter: ShownLetter, nameOf: NameOf): object {
  return {
    ...letterJson(letter, nameOf),
    advice: letter.advice,
    header: letter.header ? headerFields(letter.header) : null,
    header_trouble: letter.headerTrouble ?? null,
    header_base64: letter.rawHeader.toString('base64'),
    value: jsonOf(letter.rawValue) ?? null,
    value_base64: letter.rawValue.toString('base64'),
  }
}

export function formatShown(letter: ShownLetter, nameOf: NameOf): string {
  const lines = [
    `${letter.uuid}  ${plain(letter.event)}`,
    ...fieldLines({
      project: projectOf(letter.teamId, nameOf),
      source: formatSource(letter),
      received: time(letter.atMs),
      reason: letter.reason,
      step: letter.step,
      detail: printable(letter.detail),
      state: letter.state,
      ...decisionFields(letter.decision),
      'what to do': letter.advice,
    }),
    '',
    'header',
    ...(letter.header
      ? fieldLines(headerFields(letter.header))
      : [`  ${printable(letter.headerTrouble ?? '')} (${letter.rawHeader.length} bytes)`]),
    '',
    `as the client sent it (${letter.rawValue.length} bytes)`,
    ...formatBytes(letter.rawValue).map((line) => `  ${line}`),
  ]
  return lines.join('\n')
}

function decisionFields(decision: Decision | undefined): Record<string, string> {
  if (!decision) return {}
  const { state, by, why, atMs, jobId, sent, detail } = decision
  const word = state === 'discarded' ? 'discarded' : 'replay asked'
  return {
    [word]: `${time(atMs)} by ${printable(by)}${why ? `: ${printable(why)}` : ''}`,
    ...(jobId ? { job: jobId } : {}),
    ...(sent
      ? {
          'came back as': `${sent.logId}/${sent.partition}/${sent.offset}/0 (headrace trace tells what became of it)`,
        }
      : {}),
    ...(detail ? { failed: printable(detail) } : {}),
    ...(decision.history.length > 0 ? { 'decided before': JSON.stringify(decision.history) } : {}),
  }
}

function headerFields(header: RawHeader): Record<string, string | number | boolean> {
  return {
    token: header.token,
    distinct_id: header.distinctId,
    event: header.event,
    uuid: header.uuid,
    timestamp: time(header.timestampMs),
    time_rule: header.timeRule,
    ...(header.clientTimeMs === undefined ? {} : { client_time: time(header.clientTimeMs) }),
    now: time(header.nowMs),
    ...(header.sentAtMs === undefined ? {} : { sent_at: time(header.sentAtMs) }),
    ip: header.ip,
    user_agent: header.userAgent,
    sdk: header.sdk,
    person_processing: header.personProcessing,
    cookieless: header.cookieless,
    disposition: header.disposition,
    request_id: header.requestId,
    ...(header.replayOf ? { replay_of: formatSource(header.replayOf) } : {}),
  }
}

function fieldLines(fields: Record<string, string | number | boolean>): string[] {
  const width = Math.max(...Object.keys(fields).map((name) => name.length))
  return Object.entries(fields)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `  ${name.padEnd(width)}  ${printable(String(value))}`)
}

/** Indented when it is JSON; else as text when it is text, else the first bytes in hexadecimal. */
function formatBytes(bytes: Buffer): string[] {
  const json = jsonOf(bytes)
  // Indenting from the parsed value would round its long numbers.
  if (json !== undefined) return indentJson(bytes.toString('utf8')).split('\n').map(printable)
  const text = bytes.toString('utf8')
  if (!text.includes('�')) return text.split('\n').map(printable)
  const shown = bytes.subarray(0, HEX_BYTES_MAX)
  const lines: string[] = []
  for (let at = 0; at < shown.length; at += 32)
    lines.push(shown.toString('hex', at, at + 32).replace(/../g, '$& '))
  if (shown.length < bytes.length)
    lines.push(`… ${bytes.length - shown.length} bytes more (--raw writes all)`)
  return lines
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

/** Valid JSON with each member on a line of its own; every token stays as it is. */
export function indentJson(text: string): string {
  let out = ''
  let depth = 0
  let opened = false
  const newLine = () => {
    out += `\n${'  '.repeat(depth)}`
  }
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === '}' || token === ']'
    if (closes) depth--
    // An empty object or list stays on its line.
    if (opened !== closes) newLine()
    opened = token === '{' || token === '['
    if (opened) depth++
    out += token === ':' ? ': ' : token
    if (token === ',') newLine()
  }
  return out
}

export function jobTable(jobs: readonly JobStatus[]): { head: string[]; rows: string[][] } {
  return {
    head: ['JOB', 'ASKED', 'BY', 'STATE', 'LETTERS', 'SENT', 'FAILED', 'WHY', 'SAYS'],
    rows: jobs.map((job) => [
      job.id,
      time(job.createdMs),
      plain(job.by),
      job.state,
      ...[job.letters, job.replayed, job.failed].map(String),
      plain(job.why),
      printable(job.says),
    ]),
  }
}

function projectOf(teamId: number, nameOf: NameOf): string {
  return nameOf(teamId) ?? (teamId === 0 ? '-' : `(${teamId})`)
}

function time(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms)
}

function plain(text: string): string {
  return printable(text.slice(0, CELL_UNITS_MAX))
}
