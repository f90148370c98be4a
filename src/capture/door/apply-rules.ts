/**
 * A submission under its project's rules: what is left to be stored, where and how, and what is refused. Restrictions
 * come first; of what they leave, the first events pass for which quota and rate have room. What must hold: policy never
 * changes the partition of an event, which is a function of its captured bytes; so person processing is only forced off
 * where the event itself left it on, and a dead letter stays in the lane and partition that it has without the rule.
 */
import type { Bytes, RawHeader } from '../../event/index.ts'
import { REJECT_REASONS, type Rejection, type RejectReason } from '../errors.ts'
import type { Submission } from '../submission.ts'
import {
  RULED_DEAD_LETTER,
  RULED_DROP,
  RULED_HISTORICAL,
  RULED_PERSONLESS,
  type Rules,
  ruledOn,
} from './rules.ts'

/** What is left of a submission after the project's policies. */
export type Ruled = {
  headers: RawHeader[]
  values: Bytes[]
  /** Places in the request, by position. */
  indexes: number[]
  /** True for the lane of imports, by position; undefined when no policy moved an event. */
  lanes: boolean[] | undefined
  /** In order of index. */
  rejected: Rejection[]
  /** How many of `rejected` a policy refused. */
  refusedByPolicy: number
  quotaLimited: boolean
}

/** How many of `events` may pass; of the others, those from `quotaFrom` on are over the quota, those before it too fast. */
export type Allowance = { pass: number; quotaFrom: number }

/** The submission as it is, for a project without rules: nothing is copied. */
export function unruled({ headers, values, indexes, rejected }: Submission): Ruled {
  return { headers, values, indexes, lanes: undefined, rejected, refusedByPolicy: 0, quotaLimited: false }
}

/** `allow` is asked once, with the number of events that the restrictions leave. */
export function applyRules(
  rules: Rules,
  submission: Submission,
  allow: (events: number) => Allowance,
): Ruled {
  const left = restrict(rules, submission)
  const events = left.headers.length
  const { pass, quotaFrom } = allow(events)
  for (let i = pass; i < events; i++) {
    refuse(left, left.headers[i]!, left.indexes[i]!, i < quotaFrom ? 'rate_limited' : 'quota_exceeded')
  }
  left.headers.length = pass
  left.values.length = pass
  left.indexes.length = pass
  if (left.lanes) left.lanes.length = pass
  left.quotaLimited = pass < events
  if (left.refusedByPolicy > 0) left.rejected.sort((a, b) => a.index - b.index)
  return left
}

function restrict(rules: Rules, submission: Submission): Ruled {
  const lane = submission.historical || rules.historical
  const left: Ruled & { lanes: boolean[] } = {
    headers: [],
    values: [],
    indexes: [],
    lanes: [],
    rejected: [...submission.rejected],
    refusedByPolicy: 0,
    quotaLimited: false,
  }
  for (let i = 0; i < submission.headers.length; i++) {
    const header = submission.headers[i]!
    const ruled = ruledOn(rules, header)
    if (ruled & RULED_DROP) {
      refuse(left, header, submission.indexes[i]!, 'restricted')
      continue
    }
    if (ruled & RULED_DEAD_LETTER) header.disposition = 'deadLetter'
    if (ruled & RULED_PERSONLESS && header.personProcessing === 'on') header.personProcessing = 'forcedOff'
    left.headers.push(header)
    left.values.push(submission.values[i]!)
    left.indexes.push(submission.indexes[i]!)
    left.lanes.push(lane || ((ruled & RULED_HISTORICAL) !== 0 && (ruled & RULED_DEAD_LETTER) === 0))
  }
  return left
}

function refuse(left: Ruled, { uuid }: RawHeader, index: number, reason: RejectReason): void {
  left.rejected.push({ index, uuid, field: '', reason, message: REJECT_REASONS[reason] })
  left.refusedByPolicy++
}
