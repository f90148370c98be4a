/**
 * Judges one event of v1 (capture spec §6.2, §6.3): what comes in is a candidate and what is known about its request;
 * what goes out is a raw header and the value to keep, or why it is not stored. What v1 asks for beyond v0 is judged
 * here, all else by the rules that all protocols share. An option says what the property of its name would say; the
 * property wins where the event has both, because that is what ingest reads.
 */
import { DISTINCT_ID_CHARS_MAX, type JsonPick, type RawHeader } from '../../../event/index.ts'
import { PERFORMANCE_EVENT } from '../../candidate.ts'
import type { Rejection, RejectReason } from '../../errors.ts'
import { EVENT_NAME_UNITS_MAX } from '../../limits.ts'
import { isLonger, isRejection, type RequestFacts, rejection, validateEvent } from '../../validate.ts'
import { isIllegalDistinctId } from './illegal-distinct-ids.ts'
import { lenientBoolean } from './lenient-boolean.ts'
import type { V1Candidate } from './scan-event.ts'
import type { EventOptions, Splicer } from './splice.ts'

export type JudgedEvent = {
  header: RawHeader
  value: Buffer
  /** The event is stored without a person, because its distinct_id is nobody's. */
  illegalId: boolean
}

/** The distinct_id of cookieless events, whose person is found later. */
const COOKIELESS_ID = '$posthog_cookieless'

export function judgeEvent(
  body: Buffer,
  candidate: V1Candidate,
  index: number,
  facts: RequestFacts,
  splicer: Splicer,
): JudgedEvent | Rejection {
  const no = (field: string, reason: RejectReason, message?: string): Rejection =>
    rejection(index, candidate, field, reason, message)

  if (!candidate.isObject) return no('', 'not_an_object')
  const { event } = candidate
  if (event === PERFORMANCE_EVENT) return no('event', 'performance_event')
  if (typeof event === 'string' && isLonger(event, EVENT_NAME_UNITS_MAX)) {
    return no('event', 'event_name_too_long')
  }

  const { distinctId: sentId } = candidate
  if (sentId === undefined || sentId === null) {
    return no('distinct_id', 'missing_distinct_id', '`distinct_id` is missing.')
  }
  if (typeof sentId !== 'string') return no('distinct_id', 'invalid_distinct_id')
  const distinctId = sentId.trim()
  if (distinctId === '') return no('distinct_id', 'missing_distinct_id', '`distinct_id` is empty.')
  if (isLonger(distinctId, DISTINCT_ID_CHARS_MAX)) return no('distinct_id', 'distinct_id_too_long')

  const { timestamp, sessionId, windowId } = candidate
  if (timestamp === undefined || timestamp === null) {
    return no('timestamp', 'invalid_timestamp', '`timestamp` is missing.')
  }
  if (!isTextOrNothing(sessionId)) return no('session_id', 'invalid_session')
  if (!isTextOrNothing(windowId)) return no('window_id', 'invalid_session')

  const options = readOptions(body, candidate)
  if (typeof options === 'string') {
    return options === 'options'
      ? no('options', 'invalid_options', '`options` is not an object.')
      : no(options, 'invalid_options', `\`${options}\` cannot be read.`)
  }
  const members = splicer.members(candidate, options)
  // From here on the candidate says what the value will say.
  candidate.distinctId = distinctId
  if (typeof candidate.uuid === 'string' && candidate.uuid.trim() === '') candidate.uuid = undefined
  const { cookielessMode, disableSkewCorrection, processPersonProfile } = options
  if (candidate.ownCookielessMode === undefined) candidate.ownCookielessMode = cookielessMode
  if (candidate.ownIgnoreSentAt === undefined) candidate.ownIgnoreSentAt = disableSkewCorrection
  if (candidate.ownProcessPersonProfile === undefined)
    candidate.ownProcessPersonProfile = processPersonProfile
  if (distinctId === COOKIELESS_ID && candidate.ownCookielessMode !== true) {
    return no('distinct_id', 'cookieless_mode_required')
  }
  const header = validateEvent(body, candidate, index, facts)
  if (isRejection(header)) return header
  if (header.timeRule === 'unreadable') {
    return no('timestamp', 'invalid_timestamp', '`timestamp` cannot be read as a time.')
  }
  const value = splicer.value(body, candidate, members)
  if (value.length > facts.eventBytesMax) {
    const message = `The event has ${value.length} bytes with its options; ${facts.eventBytesMax} are allowed.`
    return no('', 'event_too_large', message)
  }
  const illegalId = isIllegalDistinctId(distinctId)
  // Not `off`, which is what the event says of itself: an identify among these is stored, and changes no person.
  if (illegalId && header.personProcessing === 'on') header.personProcessing = 'forcedOff'
  return { header, value, illegalId }
}

const NO_OPTIONS: EventOptions = {
  cookielessMode: undefined,
  disableSkewCorrection: undefined,
  processPersonProfile: undefined,
  productTourId: undefined,
}

/** The options, or the name of the one that cannot be read. */
function readOptions(body: Buffer, candidate: V1Candidate): EventOptions | string {
  if (candidate.options === 'absent') return NO_OPTIONS
  if (candidate.options === 'other') return 'options'
  const cookielessMode = lenientBoolean(body, candidate.cookielessMode)
  if (cookielessMode === 'invalid') return 'options.cookieless_mode'
  const disableSkewCorrection = lenientBoolean(body, candidate.disableSkewCorrection)
  if (disableSkewCorrection === 'invalid') return 'options.disable_skew_correction'
  const processPersonProfile = lenientBoolean(body, candidate.processPersonProfile)
  if (processPersonProfile === 'invalid') return 'options.process_person_profile'
  const { productTourId } = candidate
  if (!isTextOrNothing(productTourId)) return 'options.product_tour_id'
  return {
    cookielessMode,
    disableSkewCorrection,
    processPersonProfile,
    productTourId: productTourId ?? undefined,
  }
}

function isTextOrNothing(value: JsonPick | undefined): value is string | null | undefined {
  return typeof value === 'string' || value === null || value === undefined
}
