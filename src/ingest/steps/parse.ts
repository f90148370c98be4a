/**
 * Raw record → header and JSON object. What cannot be read goes to the dead letters with its original bytes.
 * NUL and half characters (lone surrogates), which only an escape can bring in, become U+FFFD: of a text that holds
 * half a character ClickHouse can read no property at all, and Postgres takes neither.
 * Cost: JSON.parse, and 0.3 µs for the look at escapes and depth of a usual event.
 */
import { deadLetter, decodeRawHeader, type Outcome, pass, type RawHeader } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { JSON_DEPTH_MAX, sanitiseObject } from '../identity/sanitise.ts'
import type { Json } from '../identity/types.ts'
import { isDeeperThan, isObject, own } from '../json.ts'
import type { IngestProject } from '../project-options.ts'

/** Levels of nesting, the event itself being 1: what Postgres and, beyond 1,000, ClickHouse can read. */
export const EVENT_LEVELS_MAX = JSON_DEPTH_MAX

/** The packed header; a failure means that the record was not written by a capture of a version we know. */
export function parseHeader(bytes: Uint8Array): Outcome<RawHeader> {
  try {
    return pass(decodeRawHeader(bytes))
  } catch (error) {
    return deadLetter('unreadable_record', `header: ${(error as Error).message}`)
  }
}

export function parseEvent(
  header: RawHeader,
  project: IngestProject,
  value: Uint8Array,
): Outcome<ParsedEvent> {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8')
  let json: Json
  try {
    json = JSON.parse(text)
  } catch (error) {
    return deadLetter('unreadable_event', `not JSON: ${(error as Error).message}`)
  }
  if (!isObject(json)) return deadLetter('unreadable_event', 'the event is not a JSON object')
  if (isDeeperThan(EVENT_LEVELS_MAX, json)) {
    return deadLetter('unreadable_event', `nested deeper than ${EVENT_LEVELS_MAX} levels`)
  }
  const body = mayHoldHalfCharacters(text) ? sanitiseObject(json) : json
  const properties = own(body, 'properties') ?? {}
  if (!isObject(properties)) return deadLetter('unreadable_event', 'field "properties" is not a JSON object')
  return pass({ header, project, body, properties, personProcessing: header.personProcessing })
}

/** Whole characters beyond the first 65,536 are two such escapes, so this may be true of a clean event. */
const SUSPECT_ESCAPE = /\\u(?:0000|[dD][89a-fA-F])/

function mayHoldHalfCharacters(text: string): boolean {
  // A search for a fixed text is ten times as fast, and most events have no escape of this kind.
  return text.includes('\\u') && SUSPECT_ESCAPE.test(text)
}
