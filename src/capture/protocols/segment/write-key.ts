/**
 * Which project a Segment request is for: the user of Basic auth, `writeKey` of the body, or the one that the messages
 * of a batch agree on. All SDKs send the first, most of them the second too.
 */
import type { JsonPick } from '../../../event/index.ts'
import { captureError } from '../../errors.ts'
import type { ScannedMessages } from './scan-messages.ts'

const BASIC = 'basic '

/** The key as sent. Throws HR_CAPTURE_NO_TOKEN, HR_CAPTURE_INVALID_TOKEN, HR_CAPTURE_TOKENS_DIFFER. */
export function writeKeyOf(authorization: string | null, scanned: ScannedMessages, isBatch: boolean): string {
  const ofBasic = basicUser(authorization)
  const ofBody = textKey(isBatch ? scanned.writeKey : scanned.messages[0]!.writeKey)
  if (ofBasic !== undefined && ofBody !== undefined && ofBasic !== ofBody) throw differing()
  const ofRequest = ofBasic ?? ofBody
  if (ofRequest !== undefined) return ofRequest
  let agreed: string | undefined
  for (const { writeKey } of scanned.messages) {
    const own = textKey(writeKey)
    if (own === undefined || own === agreed) continue
    if (agreed !== undefined) throw differing()
    agreed = own
  }
  if (agreed === undefined) {
    throw captureError(
      'HR_CAPTURE_NO_TOKEN',
      'the request names no write key: send the project token as user of Basic auth, or as `writeKey` in the body',
    )
  }
  return agreed
}

function differing() {
  return captureError(
    'HR_CAPTURE_TOKENS_DIFFER',
    'the request names two different write keys; one request is for one project',
  )
}

/** Absent and empty are the same; a key is text. */
function textKey(value: JsonPick | undefined): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string') return value
  throw captureError('HR_CAPTURE_INVALID_TOKEN', '`writeKey` is not a string')
}

/** The user of `Basic base64(user:password)`; undefined for another scheme or none, because the body may say it. */
function basicUser(authorization: string | null): string | undefined {
  if (authorization === null || authorization.slice(0, BASIC.length).toLowerCase() !== BASIC) return undefined
  const text = Buffer.from(authorization.slice(BASIC.length).trim(), 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return (colon < 0 ? text : text.slice(0, colon)) || undefined
}
