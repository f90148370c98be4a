/**
 * The door: which project a token belongs to, what the project's policies let in, and the account of what was refused:
 * counted by project and reason, told to the owner by reports, and a sample of the requests kept for support.
 * `admit` → `rule` → (the write) → `account`, once per request each; `refused` for a request with refusals. Nothing here
 * waits for Postgres but a token that is not known, for half a second at most.
 */
import { type Meter, NO_PROJECT, policyIn } from '../../catalog/index.ts'
import type { HeadraceError } from '../../event/index.ts'
import { counter, type Logger } from '../../observe/index.ts'
import { captureError, type Note, type Rejection } from '../errors.ts'
import type { CaptureRequest } from '../request.ts'
import type { Submission } from '../submission.ts'
import type { Account } from './account.ts'
import { type Allowance, applyRules, type Ruled, unruled } from './apply-rules.ts'
import { describeRequest, eventSample, guessToken, requestSample } from './describe.ts'
import type { KnownProject, Projects } from './projects.ts'
import { Rates } from './rate.ts'
import type { Reports } from './reports.ts'
import { compileRules, type Rules } from './rules.ts'

export { type Account, ownAccount } from './account.ts'
export type { Ruled } from './apply-rules.ts'
export type { KnownProject, Projects } from './projects.ts'
export { Reports } from './reports.ts'

/** What a token gives access to; kept for as long as one request takes. */
export type Admission = {
  token: string
  /** Undefined when the catalogue could not be asked: ingest decides. */
  project: KnownProject | undefined
}

/** A ruling, and what of the project's quota it holds until it is known whether the events are durable. */
export type Ruling = { ruled: Ruled; meter: Meter | undefined; held: number; rated: number }

export type DoorDeps = Account & {
  projects: Projects
  reports: Reports
  logger: Logger
}

const rejectedTotal = counter(
  'headrace_capture_events_rejected_total',
  'Events refused singly, by team id (of the first 200 with refusals, else other) and reason.',
  ['project', 'reason'],
)
const policiesUnread = counter(
  'headrace_capture_policies_unread_total',
  'Policies that this version cannot read: their projects are served as if they had none.',
)
/** Projects with a label of their own: with some twenty reasons each, 4,000 series. */
const PROJECT_LABELS_MAX = 200

export class Door {
  /** Compiled once per change: a project that has changed is another object. */
  private readonly rules = new WeakMap<KnownProject, { rules: Rules | undefined }>()
  private readonly rates = new Rates()
  private readonly labels = new Set<number>()

  constructor(private readonly deps: DoorDeps) {}

  /** Throws HR_CAPTURE_UNKNOWN_TOKEN. */
  admit(token: string): Admission | Promise<Admission> {
    const known = this.deps.projects.known(token)
    if (known === undefined) return this.ask(token)
    if (known === null) throw unknownToken()
    return { token, project: known }
  }

  private async ask(token: string): Promise<Admission> {
    const project = await this.deps.projects.find(token)
    if (project === null) throw unknownToken()
    return { token, project }
  }

  /** Must be followed by `account` or `giveBack`. */
  rule({ project }: Admission, submission: Submission): Ruling {
    if (!project) return { ruled: unruled(submission), meter: undefined, held: 0, rated: 0 }
    const meter = this.deps.usage.meter(project.teamId, submission.sender.nowMs)
    const rules = this.rulesOf(project)
    // Held also without a quota: a meter that nobody holds may be forgotten, and with it what is counted later.
    if (!rules) {
      const held = submission.headers.length
      meter.hold(held)
      return { ruled: unruled(submission), meter, held, rated: 0 }
    }
    let rated = 0
    const ruled = applyRules(rules, submission, (events): Allowance => {
      const quotaFrom = Math.min(
        events,
        Math.max(0, (rules.eventsPerMonth ?? events + meter.used) - meter.used),
      )
      if (!rules.rate) return { pass: quotaFrom, quotaFrom }
      rated = this.rates.take(project.teamId, quotaFrom, rules.rate, performance.now())
      return { pass: rated, quotaFrom }
    })
    const held = ruled.headers.length
    meter.hold(held)
    return { ruled, meter, held, rated }
  }

  /** Nothing of it was stored. */
  giveBack({ meter, held, rated }: Ruling): void {
    meter?.settle(held, 0, 0)
    if (meter && rated > 0) this.rates.giveBack(meter.teamId, rated)
  }

  /** What was to be stored is. */
  account({ token, project }: Admission, submission: Submission, { ruled, meter, held }: Ruling): void {
    const { rejected } = ruled
    meter?.settle(held, ruled.headers.length, rejected.length)
    if (rejected.length === 0 && submission.notes.length === 0) return
    const { trail, sender } = submission
    trail.rejected = rejected
    trail.requestId = sender.requestId
    trail.sdk ??= submission.headers.find(({ sdk }) => sdk !== '')?.sdk
    for (const [reason, { count, first }] of countByReason(rejected)) {
      rejectedTotal.inc({ project: this.labelOf(project), reason }, count)
      if (project) this.report({ teamId: project.teamId, token }, 'events_rejected', count, first, submission)
    }
    if (!project) return
    for (const { count, first } of countByReason(notesOfStored(submission, ruled)).values()) {
      this.report({ teamId: project.teamId, token }, 'events_changed', count, first, submission)
    }
  }

  /**
   * A request was answered with an error, or events of it were refused. What failed by no fault of the sender, and will be
   * sent again, is no refusal.
   */
  refused(request: CaptureRequest, status: number, error: HeadraceError | undefined): void {
    if (error !== undefined && error.class !== 'rejected') return
    const token = guessToken(request)?.trim() ?? ''
    const project = request.trail.project ?? this.knownProject(token)
    if (error && project) {
      const { reports } = this.deps
      const of = { teamId: project.teamId, token }
      const tally = reports.count(of, 'requests_refused', error.code, 1, request.nowMs)
      if (tally) tally.sample ??= requestSample(request, error)
    }
    const teamId = project?.teamId ?? NO_PROJECT
    const { rejectedRequests } = this.deps
    if (!rejectedRequests.wants(teamId)) return
    rejectedRequests.keep(describeRequest(request, status, error, teamId, token))
  }

  private knownProject(token: string): KnownProject | undefined {
    return token === '' ? undefined : (this.deps.projects.known(token) ?? undefined)
  }

  private report(
    project: { teamId: number; token: string },
    type: 'events_rejected' | 'events_changed',
    count: number,
    first: Rejection | Note,
    submission: Submission,
  ): void {
    const tally = this.deps.reports.count(project, type, first.reason, count, submission.sender.nowMs)
    if (tally) tally.sample ??= eventSample(submission, first)
  }

  private rulesOf(project: KnownProject): Rules | undefined {
    const before = this.rules.get(project)
    if (before) return before.rules
    const rules = this.compile(project)
    this.rules.set(project, { rules })
    return rules
  }

  /** A policy that cannot be read, as a later version may write one, keeps no event out. */
  private compile({ teamId, settings }: KnownProject): Rules | undefined {
    try {
      return compileRules(policyIn(settings))
    } catch (error) {
      policiesUnread.inc()
      const docs = 'docs/runbooks/policies.md'
      this.deps.logger.error({ teamId, docs }, `a policy is not obeyed: ${(error as Error).message}`)
      return undefined
    }
  }

  private labelOf(project: KnownProject | undefined): string {
    if (!project) return 'unknown'
    const { teamId } = project
    if (!this.labels.has(teamId)) {
      if (this.labels.size >= PROJECT_LABELS_MAX) return 'other'
      this.labels.add(teamId)
    }
    return String(teamId)
  }
}

/** What a policy refused is not stored in any shape. */
function notesOfStored({ notes }: Submission, { refusedByPolicy, indexes }: Ruled): readonly Note[] {
  if (refusedByPolicy === 0 || notes.length === 0) return notes
  const stored = new Set(indexes)
  return notes.filter(({ index }) => stored.has(index))
}

function countByReason<T extends { reason: string }>(
  list: readonly T[],
): Map<T['reason'], { count: number; first: T }> {
  const counts = new Map<T['reason'], { count: number; first: T }>()
  for (const one of list) {
    const known = counts.get(one.reason)
    if (known) known.count++
    else counts.set(one.reason, { count: 1, first: one })
  }
  return counts
}

function unknownToken() {
  return captureError(
    'HR_CAPTURE_UNKNOWN_TOKEN',
    'no project has this token; compare `api_key` with the output of `headrace project list`',
  )
}
