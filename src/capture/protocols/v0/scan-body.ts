/**
 * The v0 body in one pass over its bytes: an array of events, an object with a `batch` of them, or one event. What
 * comes out: the envelope's members, and a candidate per event with the place of its bytes. Throws HR_CAPTURE_NOT_JSON,
 * HR_CAPTURE_WRONG_SHAPE, HR_CAPTURE_TOO_MANY_EVENTS, HR_CAPTURE_TOO_MANY_VALUES. As with JSON.parse, the last of
 * repeated members counts.
 * Cost: 1 to 1.5 µs per event of 1.2 kB, two thirds of a bare JSON.parse, and no tree.
 */
import { JsonFields, type JsonPick, JsonScanner } from '../../../event/index.ts'
import { EventCandidate } from '../../candidate.ts'
import { captureError } from '../../errors.ts'
import { fieldNumbers, kindOf, pickMember, scanRefusal, seekMember, skipMember } from '../../scan-members.ts'

export type ScannedBody = {
  /** From the batch's envelope; undefined for the other two shapes. */
  token: JsonPick | undefined
  sentAt: JsonPick | undefined
  historical: boolean
  events: EventCandidate[]
}

const ROOT_FIELDS = [
  'event',
  'properties',
  'distinct_id',
  '$distinct_id',
  'uuid',
  'timestamp',
  'offset',
  'token',
  'api_key',
  '$token',
  '$set',
  '$set_once',
  'batch',
  'sent_at',
  'historical_migration',
] as const
const rootFields = new JsonFields(ROOT_FIELDS)
const ROOT = fieldNumbers(ROOT_FIELDS)

const PROPERTY_FIELDS = [
  'distinct_id',
  'token',
  '$process_person_profile',
  '$cookieless_mode',
  '$ignore_sent_at',
  '$lib',
  '$lib_version',
  'capture_internal',
] as const
const propertyFields = new JsonFields(PROPERTY_FIELDS)
const PROPERTY = fieldNumbers(PROPERTY_FIELDS)

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b

/**
 * Scans `bytes`, which hold at most `eventsMax` events and `valuesMax` values. A body that is an object without a name
 * and without a batch is an event all the same when `nameless` ones are taken.
 */
export function scanBody(
  bytes: Buffer,
  eventsMax: number,
  valuesMax?: number,
  nameless = false,
): ScannedBody {
  const body: ScannedBody = { token: undefined, sentAt: undefined, historical: false, events: [] }
  try {
    const scanner = new JsonScanner(bytes, valuesMax)
    const first = scanner.peek()
    if (first === OPEN_BRACKET) {
      scanEvents(scanner, body.events, eventsMax)
    } else if (first === OPEN_BRACE) {
      scanRoot(scanner, body, eventsMax, nameless)
    } else {
      scanner.skip()
      scanner.finish()
      throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body is neither a JSON object nor an array of events')
    }
    scanner.finish()
  } catch (error) {
    throw scanRefusal(error, bytes.length)
  }
  return body
}

/** A root object is an event or an envelope, which shows only when `batch` comes, so both are read at once. */
function scanRoot(scanner: JsonScanner, body: ScannedBody, eventsMax: number, nameless: boolean): void {
  const root = new EventCandidate(scanner.at)
  let hasBatch = false
  let historical = false
  if (scanner.enterObject()) {
    let field = seekMember(scanner, rootFields, false, root, 1)
    while (field >= 0) {
      if (field === ROOT.batch) {
        body.events.length = 0
        hasBatch = scanner.peek() === OPEN_BRACKET
        if (hasBatch) scanEvents(scanner, body.events, eventsMax)
        else scanner.skip()
      } else if (field === ROOT.historical_migration) historical = scanner.pick() === true
      else scanEventMember(scanner, field, root)
      field = seekMember(scanner, rootFields, true, root, 1)
    }
  }
  root.end = scanner.at
  root.keys = scanner.keys
  if (hasBatch) {
    body.token = root.apiKey ?? root.token ?? root.dollarToken
    body.sentAt = root.sentAt
    body.historical = historical
  } else if (root.event === undefined && !nameless) {
    // What is not JSON at all has no shape.
    scanner.finish()
    throw captureError(
      'HR_CAPTURE_WRONG_SHAPE',
      'the body is an object with neither an `event` name nor a `batch` of events',
    )
  } else {
    body.events.push(root)
  }
}

function scanEvents(scanner: JsonScanner, events: EventCandidate[], eventsMax: number): void {
  if (!scanner.enterArray()) return
  do {
    if (events.length === eventsMax) {
      throw captureError(
        'HR_CAPTURE_TOO_MANY_EVENTS',
        `the request holds more than ${eventsMax} events, which is what is allowed; send it in parts`,
      )
    }
    const isObject = scanner.peek() === OPEN_BRACE
    const candidate = new EventCandidate(scanner.at)
    scanner.keys = 0
    if (isObject) {
      if (scanner.enterObject()) scanEvent(scanner, candidate)
    } else {
      candidate.isObject = false
      scanner.skip()
    }
    candidate.end = scanner.at
    candidate.keys = scanner.keys
    events.push(candidate)
  } while (scanner.nextElement())
}

function scanEvent(scanner: JsonScanner, into: EventCandidate): void {
  let field = seekMember(scanner, rootFields, false, into, 1)
  while (field >= 0) {
    scanEventMember(scanner, field, into)
    field = seekMember(scanner, rootFields, true, into, 1)
  }
}

/** The value of a member of an event; `field` is the number of its key. */
function scanEventMember(scanner: JsonScanner, field: number, into: EventCandidate): void {
  switch (field) {
    case ROOT.event:
      into.event = pickMember(scanner, into, 1)
      return
    case ROOT.properties:
      into.clearProperties()
      into.properties = scanner.peek() === OPEN_BRACE ? 'object' : 'other'
      if (into.properties === 'object') scanProperties(scanner, into)
      else skipMember(scanner, into, 1)
      return
    case ROOT.distinct_id:
      into.distinctId = pickMember(scanner, into, 1)
      return
    case ROOT.$distinct_id:
      into.dollarDistinctId = pickMember(scanner, into, 1)
      return
    case ROOT.uuid:
      into.uuid = pickMember(scanner, into, 1)
      return
    case ROOT.timestamp:
      into.timestamp = pickMember(scanner, into, 1)
      return
    case ROOT.offset:
      into.offset = pickMember(scanner, into, 1)
      return
    case ROOT.sent_at:
      into.sentAt = pickMember(scanner, into, 1)
      return
    case ROOT.token:
      into.token = pickMember(scanner, into, 1)
      return
    case ROOT.api_key:
      into.apiKey = pickMember(scanner, into, 1)
      return
    case ROOT.$token:
      into.dollarToken = pickMember(scanner, into, 1)
      return
    case ROOT.$set:
      into.set = kindOf(scanner)
      skipMember(scanner, into, 1)
      return
    case ROOT.$set_once:
      into.setOnce = kindOf(scanner)
      skipMember(scanner, into, 1)
      return
    default:
      skipMember(scanner, into, 1)
  }
}

function scanProperties(scanner: JsonScanner, into: EventCandidate): void {
  if (into.depth < 2) into.depth = 2
  if (!scanner.enterObject()) return
  let field = seekMember(scanner, propertyFields, false, into, 2)
  while (field >= 0) {
    scanProperty(scanner, field, into)
    field = seekMember(scanner, propertyFields, true, into, 2)
  }
}

/** The value of one of `PROPERTY_FIELDS`. */
function scanProperty(scanner: JsonScanner, field: number, into: EventCandidate): void {
  const value = pickMember(scanner, into, 2)
  switch (field) {
    case PROPERTY.distinct_id:
      into.ownDistinctId = value
      return
    case PROPERTY.token:
      into.ownToken = value
      return
    case PROPERTY.$process_person_profile:
      into.ownProcessPersonProfile = value
      return
    case PROPERTY.$cookieless_mode:
      into.ownCookielessMode = value
      return
    case PROPERTY.$ignore_sent_at:
      into.ownIgnoreSentAt = value
      return
    case PROPERTY.$lib:
      into.ownLib = value
      return
    case PROPERTY.$lib_version:
      into.ownLibVersion = value
      return
    case PROPERTY.capture_internal:
      into.ownCaptureInternal = true
  }
}
