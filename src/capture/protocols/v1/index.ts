/**
 * The v1 protocol (capture spec §6): the project and the sender stand in headers, the answer tells what became of each
 * event. What comes in: an envelope with a batch; what goes out: raw records in the shape of v0. A request is refused
 * whole only when its headers or its envelope cannot be read; what is wrong with an event costs that event alone.
 *
 * ```
 * headers → admit → decode → scan → judge each ─▶ store ─┬─ durable ────────────────────────────▶ 200, ok | warning | drop
 *                                                        ├─ not, and some events were dropped ──▶ 200, retry | drop
 *                                                        └─ not, and nothing else is settled ───▶ 503
 * ```
 * Over quota is a drop with a reason, never 402: published SDKs take 402 as final for the whole request and learn less.
 * Cost beside that of v0: a copy of each event (splice.ts) and a line of results.
 */
import { HeadraceError, JsonSlice } from '../../../event/index.ts'
import { readStrictPayload } from '../../decode/index.ts'
import type { Admission } from '../../door/index.ts'
import { type Answer, captureError, countRefusal, type Rejection } from '../../errors.ts'
import type { Intake, Stored, Submission } from '../../intake.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'
import { INTERNAL_IP, noteChanges, noteOn, type RequestFacts, rejection } from '../../validate.ts'
import type { ProtocolOptions } from '../options.ts'
import { judgeEvent } from './judge-event.ts'
import { requestIdEcho, v1Refusal } from './refusal.ts'
import { readHeaders, type V1Headers } from './request-headers.ts'
import { dropFor, type EventResult, NOT_PERSISTED, PERSONLESS, resultsAnswer } from './results.ts'
import { type ScannedBatch, scanBatch } from './scan-batch.ts'
import type { V1Candidate } from './scan-event.ts'
import { Splicer } from './splice.ts'

const V1_PATH = '/i/v1/analytics/events'

/** The events of a request as they were judged. */
type Judged = {
  submission: Submission
  /** Under which uuid the result of each event goes. */
  keys: (string | undefined)[]
  /** Places of the events that are stored without a person. */
  personless: number[]
}

export function v1Routes(options: ProtocolOptions): Routes {
  const route: Route = {
    methods: ['POST'],
    answer: (request) => answerV1(request, options),
    refusal: v1Refusal,
  }
  return new Map([[V1_PATH, route]])
}

async function answerV1(incoming: CaptureRequest, options: ProtocolOptions): Promise<Answer> {
  const { request, trail } = incoming
  const sender = readHeaders(request.headers)
  trail.requestId = sender.requestId
  trail.sdk = `${sender.sdkName}/${sender.sdkVersion}`
  const pending = options.intake.admit(sender.token, trail)
  const admission = pending instanceof Promise ? await pending : pending

  const { limits } = options
  const body = await readStrictPayload(incoming, limits)
  if (body.length === 0) throw captureError('HR_CAPTURE_NO_BODY', 'the body is empty once it is decompressed')
  const scanned = scanBatch(body, limits.batchEventsMax, limits.batchValuesMax)
  trail.candidates = scanned.events
  const facts = factsOf(incoming, sender, admission.token, scanned, options)
  const judged = judge(body, scanned, facts, sender, incoming)
  const answer = await settle(judged, admission, options.intake)
  return { ...answer, headers: { ...answer.headers, ...requestIdEcho(request.headers) } }
}

function factsOf(
  { ip, nowMs, trail }: CaptureRequest,
  sender: V1Headers,
  token: string,
  scanned: ScannedBatch,
  { clockTrustMs, limits }: ProtocolOptions,
): RequestFacts {
  return {
    token,
    nowMs,
    sentAtMs: sender.sentAtMs,
    ip: scanned.internal ? INTERNAL_IP : ip,
    userAgent: sender.userAgent,
    userAgentSdk: trail.sdk ?? '',
    requestId: sender.requestId,
    clockTrustMs,
    eventBytesMax: limits.eventBytesMax,
    eventDepthMax: limits.eventDepthMax,
    eventKeysMax: limits.eventKeysMax,
  }
}

function judge(
  body: Buffer,
  { events, historical }: ScannedBatch,
  facts: RequestFacts,
  sender: V1Headers,
  { path, ip, share, trail }: CaptureRequest,
): Judged {
  const { userAgent, requestId, nowMs } = facts
  const rejected: Rejection[] = []
  const submission: Submission = {
    sender: { path, ip, userAgent, requestId, nowMs },
    headers: [],
    values: [],
    indexes: [],
    rejected,
    notes: [],
    historical,
    trail,
  }
  const keys: (string | undefined)[] = []
  const personless: number[] = []
  const uuids = new Set<string>()
  const splicer = new Splicer(sender.sdkName, sender.sdkVersion)
  for (let index = 0; index < events.length; index++) {
    const candidate = events[index]!
    const sentUuid = sentUuidOf(body, candidate)
    const judged = judgeEvent(body, candidate, index, facts, splicer)
    if ('reason' in judged) {
      keys.push(sentUuid)
      rejected.push(judged)
      continue
    }
    const { header, value, illegalId } = judged
    keys.push(sentUuid ?? header.uuid)
    if (uuids.has(header.uuid)) {
      rejected.push(rejection(index, candidate, 'uuid', 'duplicate_uuid'))
      continue
    }
    uuids.add(header.uuid)
    share.take(value.length)
    submission.headers.push(header)
    submission.values.push(value)
    submission.indexes.push(index)
    noteChanges(body, candidate, header, index, submission.notes)
    if (illegalId) {
      submission.notes.push(noteOn(index, 'distinct_id', 'illegal_distinct_id'))
      personless.push(index)
    }
  }
  return { submission, keys, personless }
}

/** Stores what is valid, and says what became of each event. */
async function settle(
  { submission, keys, personless }: Judged,
  admission: Admission,
  intake: Intake,
): Promise<Answer> {
  const results = new Map<number, EventResult>()
  let stored: Stored
  try {
    stored = await intake.store(admission, submission)
    for (const index of personless) results.set(index, PERSONLESS)
    // A policy of the project takes the person off events as well.
    for (let i = 0; i < submission.headers.length; i++) {
      if (submission.headers[i]!.personProcessing === 'forcedOff') {
        results.set(submission.indexes[i]!, PERSONLESS)
      }
    }
  } catch (error) {
    if (submission.rejected.length === 0 || !isRetriable(error)) throw error
    // What is wrong with the others will not change: it is told now, and they are not sent again.
    countRefusal(error)
    const nothing = { headers: [], values: [], indexes: [], notes: [] }
    stored = await intake.store(admission, { ...submission, ...nothing })
    for (const index of submission.indexes) results.set(index, NOT_PERSISTED)
  }
  const { rejected, quotaLimited } = stored
  for (const { index, reason } of rejected) results.set(index, dropFor(reason))
  return resultsAnswer(keys, results, rejected, quotaLimited)
}

function isRetriable(error: unknown): error is HeadraceError {
  return error instanceof HeadraceError && error.class === 'retriable'
}

/** As the client wrote it, however wrong; undefined when it is missing, null or blank, and one is minted. */
function sentUuidOf(body: Buffer, { uuid }: V1Candidate): string | undefined {
  if (uuid === undefined || uuid === null) return undefined
  if (typeof uuid === 'string') return uuid.trim() === '' ? undefined : uuid
  return uuid instanceof JsonSlice ? body.toString('utf8', uuid.start, uuid.end) : String(uuid)
}
