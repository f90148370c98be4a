/**
 * What all protocols share between judging events and answering: the project's policies, the write, the account of what
 * was refused. What comes in: headers and values of the events that are valid, and the rejections of those that are not;
 * what goes out: after the events are durable, how many were stored and everything that was refused.
 *
 * ```
 * protocol: decode → scan → admit(token) → validate each → store(…) → its own form of answer
 * ```
 * Must hold: nothing is told as stored before the writer resolved; every event handed in is either stored or in
 * `rejected`. Costs per request, not per event, as long as the project has no policies.
 */
import type { SendRecord } from '../log/index.ts'
import { tallies } from '../observe/index.ts'
import { failpoint } from '../platform/index.ts'
import type { Admission, Door } from './door/index.ts'
import type { Rejection } from './errors.ts'
import { type RawWriter, rawRecord } from './produce.ts'
import type { Trail } from './request.ts'
import type { Submission } from './submission.ts'
import { checkToken } from './validate.ts'

export type { Submission } from './submission.ts'

export type Stored = {
  /** Events that are durable now. */
  stored: number
  /** What was handed in as rejected, and what a policy refused; in order of index. */
  rejected: Rejection[]
  /**
   * How many of `rejected` a policy of the project refused, which is no fault of the sender: a request of which nothing
   * was stored is answered with an error only when this is 0.
   */
  refusedByPolicy: number
  /** True when a quota or a rate kept events out. */
  quotaLimited: boolean
}

const accepted = tallies('headrace_capture_events_accepted_total', 'Events stored in the log.', ['lane'])
const acceptedMain = accepted.of({ lane: 'main' })
const acceptedHistorical = accepted.of({ lane: 'historical' })

export class Intake {
  constructor(
    private readonly door: Door,
    private readonly writer: RawWriter,
    private readonly partitions: number,
  ) {}

  /**
   * Trims and judges the token; from memory when it was seen lately. Throws HR_CAPTURE_INVALID_TOKEN or
   * HR_CAPTURE_UNKNOWN_TOKEN. A catalogue that cannot be reached lets an unknown token pass: ingest decides.
   */
  admit(sent: string, trail: Trail): Admission | Promise<Admission> {
    trail.token = sent
    const admission = this.door.admit(checkToken(sent))
    if (admission instanceof Promise) return admission.then((later) => noted(later, trail))
    return noted(admission, trail)
  }

  /** Resolves when all that is to be stored is durable. Throws what the writer throws; nothing is known stored then. */
  async store(admission: Admission, submission: Submission): Promise<Stored> {
    failpoint('parsed')
    const ruling = this.door.rule(admission, submission)
    const records: SendRecord[] = []
    const { headers, values, lanes, rejected, refusedByPolicy, quotaLimited } = ruling.ruled
    for (let i = 0; i < headers.length; i++) {
      records.push(
        rawRecord(
          headers[i]!,
          values[i]!,
          lanes === undefined ? submission.historical : lanes[i]!,
          this.partitions,
        ),
      )
    }
    if (records.length > 0) {
      try {
        await this.writer.write(records)
      } catch (error) {
        this.door.giveBack(ruling)
        throw error
      }
      const historical =
        lanes === undefined ? (submission.historical ? records.length : 0) : lanes.filter(Boolean).length
      acceptedHistorical.add(historical)
      acceptedMain.add(records.length - historical)
    }
    this.door.account(admission, submission, ruling)
    return { stored: records.length, rejected, refusedByPolicy, quotaLimited }
  }
}

function noted(admission: Admission, trail: Trail): Admission {
  trail.project = admission.project
  return admission
}
