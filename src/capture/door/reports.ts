/**
 * Tells the owners of projects what capture refused or changed: counts by project, type and reason, and at most once per
 * minute each a `CaptureReport` into the raw log, by the same writer as events, so that it is durable before it counts
 * as told. The first one goes out within a second. What is not written yet is kept and merged; a crash loses the counts
 * of the last minute, never an event. Bounded: 1,000 projects at a time with a handful of reasons each; beyond, refusals
 * are in the metrics only.
 */
import {
  type CaptureReport,
  type RawHeader,
  REPORT_EVENT,
  type ReportSample,
  type ReportType,
  uuidV7,
} from '../../event/index.ts'
import type { SendRecord } from '../../log/index.ts'
import { counter } from '../../observe/index.ts'
import { rawRecord } from '../produce.ts'

const TICK_MS = 1_000
/** Between two reports of one project, type and reason. */
const EVERY_MS = 60_000
/** After a report that could not be written. */
const RETRY_MS = 5_000
const CLOSE_MS = 1_000
const PROJECTS_MAX = 1_000
const REPORTS_PER_WRITE_MAX = 500

const reportsTotal = counter('headrace_capture_reports_total', 'Reports of refused or changed events.', [
  'result',
])

/** What is to be told of one project, type and reason. */
export class Tally {
  count = 0
  fromMs = 0
  toMs = 0
  /** To be filled in by whoever counts first. */
  sample: ReportSample | undefined = undefined
  /** Not told again before this. */
  nextMs = 0

  constructor(
    readonly token: string,
    readonly type: ReportType,
    readonly reason: string,
  ) {}

  add(count: number, fromMs: number, toMs: number): void {
    this.fromMs = this.count === 0 ? fromMs : Math.min(this.fromMs, fromMs)
    this.toMs = this.count === 0 ? toMs : Math.max(this.toMs, toMs)
    this.count += count
  }
}

export type ReportsDeps = {
  writer: { write(records: SendRecord[]): Promise<void> }
  partitions: number
  /** Epoch ms. */
  clock: () => number
  tickMs?: number
}

export class Reports {
  /** By team id; insertion order is age. */
  private readonly projects = new Map<number, Map<string, Tally>>()
  private readonly timer: ReturnType<typeof setInterval>
  private writing: Promise<void> | undefined

  constructor(private readonly deps: ReportsDeps) {
    this.timer = setInterval(() => this.tick(), deps.tickMs ?? TICK_MS)
    this.timer.unref()
  }

  /** Counts; the tally, whose sample the caller fills in when there is none; undefined when there are too many. */
  count(
    project: { teamId: number; token: string },
    type: ReportType,
    reason: string,
    count: number,
    nowMs: number,
  ): Tally | undefined {
    let tallies = this.projects.get(project.teamId)
    if (!tallies) {
      if (this.projects.size >= PROJECTS_MAX) {
        reportsTotal.inc({ result: 'left_out' })
        return undefined
      }
      tallies = new Map()
      this.projects.set(project.teamId, tallies)
    }
    const key = `${type}:${reason}`
    let tally = tallies.get(key)
    if (!tally) {
      tally = new Tally(project.token, type, reason)
      tallies.set(key, tally)
    }
    tally.add(count, nowMs, nowMs)
    return tally
  }

  /** Writes all that is counted, whenever the last report was, and stops; after a second what is left is lost. */
  async close(): Promise<void> {
    clearInterval(this.timer)
    await Promise.race([this.writeAll(), Bun.sleep(CLOSE_MS)])
  }

  private async writeAll(): Promise<void> {
    await this.writing
    while (await this.write(Number.POSITIVE_INFINITY)) {
      // Until nothing is left, or the log does not take it.
    }
  }

  private tick(): void {
    if (this.writing) return
    this.writing = this.write(this.deps.clock()).then(() => {
      this.writing = undefined
    })
  }

  /** True when a full write was made and there may be more. Never rejects: what fails is kept for later. */
  private async write(dueMs: number): Promise<boolean> {
    const nowMs = this.deps.clock()
    const due = this.due(dueMs)
    if (due.length === 0) return false
    const told = due.map((tally) => take(tally, nowMs))
    try {
      await this.deps.writer.write(told.map((report, i) => this.record(due[i]!.token, report, nowMs)))
      reportsTotal.inc({ result: 'written' }, told.length)
      return told.length === REPORTS_PER_WRITE_MAX
    } catch {
      // The writer has told why; the counts wait for the next try.
      reportsTotal.inc({ result: 'failed' }, told.length)
      for (let i = 0; i < due.length; i++) putBack(due[i]!, told[i]!, nowMs)
      return false
    }
  }

  /** Also forgets what has nothing to tell and may be told of again. */
  private due(dueMs: number): Tally[] {
    const due: Tally[] = []
    for (const [teamId, tallies] of this.projects) {
      for (const [key, tally] of tallies) {
        if (tally.nextMs > dueMs) continue
        if (tally.count === 0) tallies.delete(key)
        else if (due.length < REPORTS_PER_WRITE_MAX) due.push(tally)
      }
      if (tallies.size === 0) this.projects.delete(teamId)
    }
    return due
  }

  private record(token: string, report: CaptureReport, nowMs: number): SendRecord {
    const header: RawHeader = {
      token,
      distinctId: '',
      event: REPORT_EVENT,
      uuid: uuidV7(nowMs),
      timestampMs: nowMs,
      timeRule: 'now',
      clientTimeMs: undefined,
      nowMs,
      sentAtMs: undefined,
      ip: '',
      userAgent: '',
      sdk: report.sample.sdk,
      personProcessing: 'on',
      cookieless: false,
      disposition: 'report',
      requestId: report.sample.requestId,
      replayOf: undefined,
    }
    return rawRecord(header, Buffer.from(JSON.stringify(report)), false, this.deps.partitions)
  }
}

function take(tally: Tally, nowMs: number): CaptureReport {
  const { type, reason, count, fromMs, toMs } = tally
  const report = { type, reason, count, fromMs, toMs, sample: tally.sample! }
  tally.count = 0
  tally.sample = undefined
  tally.nextMs = nowMs + EVERY_MS
  return report
}

function putBack(tally: Tally, report: CaptureReport, nowMs: number): void {
  tally.add(report.count, report.fromMs, report.toMs)
  tally.sample = report.sample
  tally.nextMs = nowMs + RETRY_MS
}
