/** Raw record → header and JSON object. What cannot be read goes to the dead letters with its original bytes. */
import { deadLetter, decodeRawHeader, type Outcome, pass, type RawHeader } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import type { Json } from '../identity/types.ts'
import { isObject, own } from '../json.ts'

/** The packed header; a failure means that the record was not written by a capture of a version we know. */
export function parseHeader(bytes: Uint8Array): Outcome<RawHeader> {
  try {
    return pass(decodeRawHeader(bytes))
  } catch (error) {
    return deadLetter('unreadable_record', `header: ${(error as Error).message}`)
  }
}

export function parseEvent(header: RawHeader, value: Uint8Array): Outcome<ParsedEvent> {
  let body: Json
  try {
    body = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8'))
  } catch (error) {
    return deadLetter('unreadable_event', `not JSON: ${(error as Error).message}`)
  }
  if (!isObject(body)) return deadLetter('unreadable_event', 'the event is not a JSON object')
  const properties = own(body, 'properties') ?? {}
  if (!isObject(properties)) return deadLetter('unreadable_event', 'field "properties" is not a JSON object')
  return pass({ header, body, properties })
}
