/**
 * The door: which project a token belongs to, what the project allows, and the account of what was refused.
 * `admit` → `rule` → (the write) → `account`, once per request each.
 */
import type { HeadraceError, RawHeader } from '../../event/index.ts'
import { counter } from '../../observe/index.ts'
import { captureError, type Rejection, type RejectReason } from '../errors.ts'
import type { Submission } from '../intake.ts'
import type { CaptureRequest } from '../request.ts'
import type { KnownProject, Projects } from './projects.ts'

export type { KnownProject, Projects } from './projects.ts'

/** What a token gives access to; kept for as long as one request takes. */
export type Admission = {
  token: string
  /** Undefined when the catalogue could not be asked: ingest decides. */
  project: KnownProject | undefined
}

/** What is left of a submission after the project's policies. */
export type Ruled = {
  headers: RawHeader[]
  values: Uint8Array[]
  /** True for the lane of imports, by position; undefined when no policy moved an event. */
  lanes: boolean[] | undefined
  rejected: Rejection[]
  /** How many of `rejected` a policy refused. */
  refusedByPolicy: number
  quotaLimited: boolean
}

const rejectedTotal = counter('headrace_capture_events_rejected_total', 'Events refused singly.', ['reason'])

export class Door {
  constructor(private readonly projects: Projects) {}

  /** Throws HR_CAPTURE_UNKNOWN_TOKEN. */
  admit(token: string): Admission | Promise<Admission> {
    const known = this.projects.known(token)
    if (known === undefined) return this.ask(token)
    if (known === null) throw unknownToken()
    return { token, project: known }
  }

  private async ask(token: string): Promise<Admission> {
    const project = await this.projects.find(token)
    if (project === null) throw unknownToken()
    return { token, project }
  }

  rule(_admission: Admission, submission: Submission): Ruled {
    const { headers, values, rejected } = submission
    return { headers, values, lanes: undefined, rejected, refusedByPolicy: 0, quotaLimited: false }
  }

  /** Nothing of it was stored. */
  giveBack(_ruled: Ruled): void {}

  account(_admission: Admission, submission: Submission, ruled: Ruled): void {
    const { rejected } = ruled
    if (rejected.length === 0) return
    submission.trail.rejected = rejected
    const counts = new Map<RejectReason, number>()
    for (const { reason } of rejected) counts.set(reason, (counts.get(reason) ?? 0) + 1)
    for (const [reason, count] of counts) rejectedTotal.inc({ reason }, count)
  }

  /** A request was answered with an error, or events of it were refused. */
  refused(_request: CaptureRequest, _status: number, _error: HeadraceError | undefined): void {}
}

function unknownToken() {
  return captureError(
    'HR_CAPTURE_UNKNOWN_TOKEN',
    'no project has this token; compare `api_key` with the output of `headrace project list`',
  )
}
