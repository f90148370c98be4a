/**
 * The v0 body in one pass over its bytes: an array of events, an object with a `batch` of them, or one event. What
 * comes out: the envelope's members, and a candidate per event with the place of its bytes. Throws HR_CAPTURE_NOT_JSON,
 * HR_CAPTURE_WRONG_SHAPE, HR_CAPTURE_TOO_MANY_EVENTS, HR_CAPTURE_TOO_MANY_VALUES. As with JSON.parse, the last of repeated members counts.
 * Cost: 1 to 2 µs per event of 1.2 kB, about that of a bare JSON.parse, and no tree.
 */
import {
  JsonFields,
  type JsonPick,
  JsonScanError,
  JsonScanner,
  JsonValuesError,
} from '../../../event/index.ts'
import { EventCandidate } from '../../candidate.ts'
import { captureError } from '../../errors.ts'

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
const ROOT = numbersOf(ROOT_FIELDS)

const PROPERTY_FIELDS = [
  'distinct_id',
  'token',
  '$process_person_profile',
  '$cookieless_mode',
  '$ignore_sent_at',
  '$lib',
  '$lib_version',
] as const
const propertyFields = new JsonFields(PROPERTY_FIELDS)
const PROPERTY = numbersOf(PROPERTY_FIELDS)

function numbersOf<const N extends readonly string[]>(names: N): { readonly [K in N[number]]: number } {
  return Object.fromEntries(names.map((name, number) => [name, number])) as { [K in N[number]]: number }
}

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b
const LETTER_N = 0x6e

/** Scans `bytes`, which hold at most `eventsMax` events and `valuesMax` values. */
export function scanBody(bytes: Buffer, eventsMax: number, valuesMax?: number): ScannedBody {
  const body: ScannedBody = { token: undefined, sentAt: undefined, historical: false, events: [] }
  try {
    const scanner = new JsonScanner(bytes, valuesMax)
    const first = scanner.peek()
    if (first === OPEN_BRACKET) {
      scanEvents(scanner, body.events, eventsMax)
    } else if (first === OPEN_BRACE) {
      scanRoot(scanner, body, eventsMax)
    } else {
      scanner.skip()
      scanner.finish()
      throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body is neither a JSON object nor an array of events')
    }
    scanner.finish()
  } catch (error) {
    if (error instanceof JsonValuesError) {
      throw captureError(
        'HR_CAPTURE_TOO_MANY_VALUES',
        `the request holds more than ${error.valuesMax} JSON values, which is what is allowed; send it in parts`,
        error,
      )
    }
    if (!(error instanceof JsonScanError)) throw error
    throw captureError(
      'HR_CAPTURE_NOT_JSON',
      `the body is not JSON: ${error.message}, at byte ${error.at} of ${bytes.length}`,
      error,
    )
  }
  return body
}

/** A root object is an event or an envelope, which shows only when `batch` comes, so both are read at once. */
function scanRoot(scanner: JsonScanner, body: ScannedBody, eventsMax: number): void {
  const root = new EventCandidate(scanner.at)
  let hasBatch = false
  let sentAt: JsonPick | undefined
  let historical = false
  if (scanner.enterObject()) {
    do {
      scanner.key()
      const field = scanner.keyIn(rootFields)
      if (field === ROOT.batch) {
        body.events.length = 0
        hasBatch = scanner.peek() === OPEN_BRACKET
        if (hasBatch) scanEvents(scanner, body.events, eventsMax)
        else scanner.skip()
      } else if (field === ROOT.sent_at) sentAt = scanner.pick()
      else if (field === ROOT.historical_migration) historical = scanner.pick() === true
      else scanEventMember(scanner, field, root)
    } while (scanner.nextMember())
  }
  root.end = scanner.at
  root.keys = scanner.keys
  if (hasBatch) {
    body.token = root.apiKey ?? root.token ?? root.dollarToken
    body.sentAt = sentAt
    body.historical = historical
  } else if (root.event === undefined) {
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
      if (scanner.enterObject()) {
        do {
          scanner.key()
          scanEventMember(scanner, scanner.keyIn(rootFields), candidate)
        } while (scanner.nextMember())
      }
    } else {
      candidate.isObject = false
      scanner.skip()
    }
    candidate.end = scanner.at
    candidate.keys = scanner.keys
    events.push(candidate)
  } while (scanner.nextElement())
}

/** The value of a member of an event; `field` is the number of its key. */
function scanEventMember(scanner: JsonScanner, field: number, into: EventCandidate): void {
  switch (field) {
    case ROOT.event:
      into.event = pick(scanner, into, 1)
      return
    case ROOT.properties:
      into.clearProperties()
      into.properties = scanner.peek() === OPEN_BRACE ? 'object' : 'other'
      if (into.properties === 'object') scanProperties(scanner, into)
      else skip(scanner, into, 1)
      return
    case ROOT.distinct_id:
      into.distinctId = pick(scanner, into, 1)
      return
    case ROOT.$distinct_id:
      into.dollarDistinctId = pick(scanner, into, 1)
      return
    case ROOT.uuid:
      into.uuid = pick(scanner, into, 1)
      return
    case ROOT.timestamp:
      into.timestamp = pick(scanner, into, 1)
      return
    case ROOT.offset:
      into.offset = pick(scanner, into, 1)
      return
    case ROOT.token:
      into.token = pick(scanner, into, 1)
      return
    case ROOT.api_key:
      into.apiKey = pick(scanner, into, 1)
      return
    case ROOT.$token:
      into.dollarToken = pick(scanner, into, 1)
      return
    case ROOT.$set:
      into.set = kindOf(scanner)
      skip(scanner, into, 1)
      return
    case ROOT.$set_once:
      into.setOnce = kindOf(scanner)
      skip(scanner, into, 1)
      return
    default:
      skip(scanner, into, 1)
  }
}

function kindOf(scanner: JsonScanner): 'object' | 'null' | 'other' {
  const first = scanner.peek()
  return first === OPEN_BRACE ? 'object' : first === LETTER_N ? 'null' : 'other'
}

function scanProperties(scanner: JsonScanner, into: EventCandidate): void {
  if (into.depth < 2) into.depth = 2
  if (!scanner.enterObject()) return
  do {
    scanner.key()
    switch (scanner.keyIn(propertyFields)) {
      case PROPERTY.distinct_id:
        into.ownDistinctId = pick(scanner, into, 2)
        break
      case PROPERTY.token:
        into.ownToken = pick(scanner, into, 2)
        break
      case PROPERTY.$process_person_profile:
        into.ownProcessPersonProfile = pick(scanner, into, 2)
        break
      case PROPERTY.$cookieless_mode:
        into.ownCookielessMode = pick(scanner, into, 2)
        break
      case PROPERTY.$ignore_sent_at:
        into.ownIgnoreSentAt = pick(scanner, into, 2)
        break
      case PROPERTY.$lib:
        into.ownLib = pick(scanner, into, 2)
        break
      case PROPERTY.$lib_version:
        into.ownLibVersion = pick(scanner, into, 2)
        break
      default:
        skip(scanner, into, 2)
    }
  } while (scanner.nextMember())
}

/** Picks a value that stands `level` levels deep in the event, and keeps count of the depth. */
function pick(scanner: JsonScanner, into: EventCandidate, level: number): JsonPick {
  scanner.deepest = 0
  const value = scanner.pick()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
  return value
}

function skip(scanner: JsonScanner, into: EventCandidate, level: number): void {
  scanner.deepest = 0
  scanner.skip()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
}
