/**
 * The Segment protocol: what the SDKs of Segment and RudderStack send, one message or a batch, under any content type.
 * What comes in: messages; what goes out: raw records whose value is the event that a message means, in the shape of
 * v0 (docs/decisions/0013). Valid messages are stored though others of the request are not; the answer is an error only
 * when nothing can be stored, because these SDKs drop a whole request on 4xx and send it again on 5xx.
 *
 * Cost per message of 1 kB: one scan, JSON.parse, the mapping, SHA-1 of the messageId, JSON.stringify: about 20 µs
 * on a busy core, of which the scan and the two JSON calls are half.
 */
import { readPayload } from '../../decode/index.ts'
import { type Answer, captureError, rejectedMembers } from '../../errors.ts'
import { nothingStored } from '../../nothing-stored.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'
import { type Sender, type Submission, senderOf } from '../../submission.ts'
import { readSentAt } from '../../validate.ts'
import type { ProtocolOptions, RequestLimits } from '../options.ts'
import { judgeMessage, type MessageFacts, sentCandidate, sharedMembers } from './judge-message.ts'
import { CALL_TYPES, type CallType } from './mapping-tables.ts'
import { type ScannedMessages, scanBatch, scanSingle } from './scan-messages.ts'
import { QUIET_SEGMENT_ROUTES } from './settings.ts'
import { writeKeyOf } from './write-key.ts'

export { segmentSettingsRoute } from './settings.ts'

/**
 * Bytes of JSON, messages and JSON values in one request: twice the bytes that Segment takes, and as many messages. A
 * tree is made of every message, so these bound the CPU of a request.
 */
const BODY_BYTES_MAX = 1_024_000
const MESSAGES_MAX = 2_500
const VALUES_MAX = 100_000

/** What a path takes: one message of a call, or a batch of any. */
type Kind = { call: CallType | undefined; historical: boolean }

const OK: Answer = { status: 200, body: '{"success":true}' }

/** All paths of Segment, with the short forms that browsers use. */
export function segmentRoutes(options: ProtocolOptions): Routes {
  const { limits } = options
  const bounded: ProtocolOptions = {
    ...options,
    limits: {
      ...limits,
      inflatedBytesMax: Math.min(limits.inflatedBytesMax, BODY_BYTES_MAX),
      batchEventsMax: Math.min(limits.batchEventsMax, MESSAGES_MAX),
      batchValuesMax: Math.min(limits.batchValuesMax, VALUES_MAX),
    },
  }
  const route = (kind: Kind): Route => ({
    methods: ['POST'],
    answer: (request) => answerSegment(request, kind, bounded),
  })
  const routes = new Map<string, Route>(QUIET_SEGMENT_ROUTES)
  for (const call of CALL_TYPES) {
    const single = route({ call, historical: false })
    routes.set(`/v1/${call}`, single)
    routes.set(`/v1/${call[0]}`, single)
  }
  const batch = route({ call: undefined, historical: false })
  routes.set('/v1/batch', batch)
  routes.set('/v1/b', batch)
  routes.set('/v1/import', route({ call: undefined, historical: true }))
  return routes
}

async function answerSegment(
  incoming: CaptureRequest,
  kind: Kind,
  { intake, limits, clockTrustMs }: ProtocolOptions,
): Promise<Answer> {
  const { request, trail } = incoming
  const body = await readPayload(incoming, limits)
  if (body.length > BODY_BYTES_MAX) {
    throw captureError(
      'HR_CAPTURE_BODY_TOO_LARGE',
      `the body has ${body.length} bytes; ${BODY_BYTES_MAX} are allowed for messages of Segment`,
    )
  }
  const isBatch = kind.call === undefined
  const { batchEventsMax, batchValuesMax } = limits
  const scanned = isBatch ? scanBatch(body, batchEventsMax, batchValuesMax) : scanSingle(body, batchValuesMax)
  if (scanned.messages.length === 0) {
    throw captureError('HR_CAPTURE_NO_EVENTS', 'the request holds no event: its `batch` is empty')
  }
  const writeKey = writeKeyOf(request.headers.get('authorization'), scanned, isBatch)
  const pending = intake.admit(writeKey, trail)
  const admission = pending instanceof Promise ? await pending : pending

  const sender = senderOf(incoming)
  const facts = factsOf(sender, admission.token, scanned, clockTrustMs, limits)
  const submission = judge(body, scanned, kind, facts, sender, incoming, limits.inflatedBytesMax)
  const result = await intake.store(admission, submission)
  const { stored, rejected, refusedByPolicy, quotaLimited } = result
  if (stored === 0 && refusedByPolicy === 0 && rejected.length > 0) return nothingStored(rejected, 'message')
  if (rejected.length === 0) return OK
  return { status: 200, body: JSON.stringify({ success: true, ...rejectedMembers(rejected, quotaLimited) }) }
}

/** Judges each message. */
function judge(
  body: Buffer,
  scanned: ScannedMessages,
  kind: Kind,
  facts: MessageFacts,
  sender: Sender,
  { trail, share }: CaptureRequest,
  bytesMax: number,
): Submission {
  const { sentAtMs } = facts
  const submission: Submission = {
    sender,
    headers: [],
    values: [],
    indexes: [],
    rejected: [],
    notes: [],
    historical: kind.historical,
    trail,
  }
  const shared = sharedMembers(body, scanned, bytesMax, facts.eventDepthMax)
  const { messages } = scanned
  for (let index = 0; index < messages.length; index++) {
    const message = messages[index]!
    // SDKs that keep batches for later write a new time only on the batch.
    facts.sentAtMs = sentAtMs ?? readSentAt(message.sentAt, null)
    const judged = judgeMessage(body, message, index, kind.call, shared, facts, submission.notes)
    if ('reason' in judged) {
      submission.rejected.push(judged)
    } else {
      share.take(judged.value.length)
      submission.headers.push(judged.header)
      submission.values.push(judged.value)
      submission.indexes.push(index)
    }
  }
  if (submission.rejected.length > 0) trail.candidates = messages.map(sentCandidate)
  return submission
}

function factsOf(
  { ip, userAgent, requestId, nowMs }: Sender,
  token: string,
  scanned: ScannedMessages,
  clockTrustMs: number,
  { eventBytesMax, eventDepthMax, eventKeysMax }: RequestLimits,
): MessageFacts {
  return {
    token,
    nowMs,
    sentAtMs: readSentAt(scanned.sentAt, null),
    ip,
    userAgent,
    userAgentSdk: '',
    requestId,
    clockTrustMs,
    eventBytesMax,
    eventDepthMax,
    eventKeysMax,
  }
}
