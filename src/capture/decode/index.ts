/**
 * From a request to the bytes of its JSON, for all protocols. What comes in: a body or a `data` parameter, however an
 * SDK has wrapped it; what goes out: JSON in UTF-8 without a byte order mark, not yet looked at beyond its first byte.
 *
 * ```
 *            ┌─ begins like JSON ─────────────────────────────────────────▶ done
 *  payload ──┤─ begins like gzip, zstd or zlib ─▶ inflate (once) ──┐
 *            ├─ a form ─▶ its `data` (once) ───────────────────────┤
 *            ├─ lz64 ─▶ its text ──────────────────────────────────┤
 *            ├─ base64 of any of these ─▶ its bytes (twice) ───────┤
 *            └─ a hint at br or deflate ─▶ inflate (once) ─────────┴─▶ look again
 * ```
 * Must hold: the bytes are asked before the hints, because many clients lose the hint and some lie; a hint decides only
 * what has no magic. Each step makes another kind of payload and is taken a bounded number of times, so that wraps in
 * wraps cost no more than one of each.
 * Cost: nothing for JSON; else that of the step, see there.
 */
import { tallies } from '../../observe/index.ts'
import { captureError } from '../errors.ts'
import type { InFlightShare } from '../limits.ts'
import type { CaptureRequest } from '../request.ts'
import { type Encoding, encodingOf, type Hint, hintOf } from './encoding.ts'
import { type InflateLimits, inflateBody } from './inflate.ts'
import { beginsLikeLz64Json, Lz64TooLarge, lz64Decoded } from './lz64.ts'
import { base64Decoded, formField, isForm } from './text.ts'

export type DecodeLimits = InflateLimits & {
  /** Bytes that may come out of lz64, which is decoded on our thread. */
  lz64BytesMax: number
}

const BASE64_LAYERS_MAX = 2
const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b
const SPACE = 0x20

const bodyBytes = tallies('headrace_capture_body_bytes_total', 'Bytes of bodies.', ['kind'])
const wireBytes = bodyBytes.of({ kind: 'wire' })
const decodedBytes = bodyBytes.of({ kind: 'decoded' })

/**
 * The JSON of a request in any of the forms that SDKs have ever sent. A `data` parameter in the query that is not empty
 * wins over the body. Throws what the body throws, HR_CAPTURE_WRONG_FORM, HR_CAPTURE_WRONG_GZIP,
 * HR_CAPTURE_WRONG_COMPRESSION, HR_CAPTURE_INFLATED_TOO_LARGE, HR_CAPTURE_RATIO_TOO_HIGH, HR_CAPTURE_NOT_JSON (UTF-16),
 * HR_CAPTURE_BUSY. What is neither JSON nor a wrap of it comes back as it is; the protocol's scan refuses it.
 */
export async function readPayload(incoming: CaptureRequest, limits: DecodeLimits): Promise<Buffer> {
  const { query, share } = incoming
  const payload = query.get('data') ? queryData(incoming.request.url) : await incoming.body()
  notePayload(incoming, payload)
  const hint = hintOf(query.get('compression'))
  const json = beginsLikeJson(payload)
    ? payload
    : await unwrap(payload, hint, incoming.request.headers, limits, share)
  return noteJson(incoming, json)
}

/**
 * The JSON of a request whose `Content-Encoding` is taken at its word: one of gzip, deflate (wrapped in zlib or not), br,
 * zstd, else HR_CAPTURE_UNSUPPORTED_ENCODING. Throws what `readPayload` throws about compression.
 */
export async function readStrictPayload(incoming: CaptureRequest, limits: InflateLimits): Promise<Buffer> {
  const encoding = strictEncoding(incoming.request.headers.get('content-encoding'))
  const body = await incoming.body()
  notePayload(incoming, body)
  const json = encoding === undefined ? body : await inflateBody(body, encoding, limits, incoming.share)
  return noteJson(incoming, stripMark(json))
}

function strictEncoding(sent: string | null): Encoding | undefined {
  const name = (sent ?? '').trim().toLowerCase()
  if (name === '' || name === 'identity') return undefined
  if (name === 'gzip' || name === 'deflate' || name === 'br' || name === 'zstd') return name
  throw captureError(
    'HR_CAPTURE_UNSUPPORTED_ENCODING',
    `the Content-Encoding ${JSON.stringify(name.slice(0, 100))} is not one of gzip, deflate, br, zstd`,
  )
}

function notePayload({ trail }: CaptureRequest, payload: Buffer): void {
  trail.bodyBytes = payload.length
  trail.body = payload
  wireBytes.add(payload.length)
}

function noteJson({ trail }: CaptureRequest, json: Buffer): Buffer {
  trail.body = json
  decodedBytes.add(json.length)
  return json
}

/** From the address itself, because a parsed query has made characters of what may be gzip. */
function queryData(url: string): Buffer {
  const query = Buffer.from(url.slice(url.indexOf('?') + 1))
  return formField(query, 'data') ?? Buffer.alloc(0)
}

async function unwrap(
  payload: Buffer,
  queryHint: Hint | undefined,
  headers: Headers,
  limits: DecodeLimits,
  share: InFlightShare,
): Promise<Buffer> {
  let bytes = payload
  let hint = queryHint
  let mayInflate = true
  let mayBeForm = true
  let base64Layers = 0
  for (;;) {
    bytes = stripMark(bytes)
    if (beginsLikeJson(bytes)) return bytes
    const encoding = encodingOf(bytes)
    if (encoding !== undefined) {
      if (!mayInflate) return bytes
      mayInflate = false
      bytes = await inflateBody(bytes, encoding, limits, share)
      continue
    }
    refuseUtf16(bytes)
    if (mayBeForm && isForm(bytes)) {
      mayBeForm = false
      share.take(bytes.length)
      hint ??= hintOf(formField(bytes, 'compression')?.toString('latin1'))
      bytes = formData(bytes)
      continue
    }
    hint ??= hintOf(headers.get('content-encoding'))
    if (hint === 'lz64' || beginsLikeLz64Json(bytes)) {
      const text = decodeLz64(bytes, limits, share)
      if (text !== undefined) return stripMark(text)
    }
    if (base64Layers < BASE64_LAYERS_MAX) {
      const decoded = decodeBase64(bytes, hint, share)
      if (decoded !== undefined) {
        base64Layers++
        bytes = decoded
        continue
      }
    }
    if (!mayInflate || (hint !== 'br' && hint !== 'deflate')) return bytes
    mayInflate = false
    bytes = await inflateBody(bytes, hint, limits, share)
  }
}

function formData(form: Buffer): Buffer {
  const data = formField(form, 'data')
  if (data !== undefined && data.length > 0) return data
  throw captureError('HR_CAPTURE_WRONG_FORM', 'the body is a form without a `data` field')
}

/** Undefined when it is no lz64 of JSON, whatever the hint says. */
function decodeLz64(text: Buffer, { lz64BytesMax }: DecodeLimits, share: InFlightShare): Buffer | undefined {
  let decoded: Buffer | undefined
  try {
    decoded = lz64Decoded(text, lz64BytesMax)
  } catch (error) {
    if (error instanceof Lz64TooLarge) throw lz64TooLarge(lz64BytesMax, error)
    throw error
  }
  if (decoded === undefined || !beginsLikeJson(stripMark(decoded))) return undefined
  if (decoded.length > lz64BytesMax) throw lz64TooLarge(lz64BytesMax)
  share.take(decoded.length)
  return decoded
}

function lz64TooLarge(bytesMax: number, cause?: unknown) {
  return captureError(
    'HR_CAPTURE_INFLATED_TOO_LARGE',
    `the text inside the lz64 of the body has over ${bytesMax} bytes, which is what is allowed for lz64`,
    cause,
  )
}

/** What `text` is the base64 of, when that can be a payload. */
function decodeBase64(text: Buffer, hint: Hint | undefined, share: InFlightShare): Buffer | undefined {
  const decoded = base64Decoded(text)
  if (decoded === undefined) return undefined
  const isPayload =
    beginsLikeJson(stripMark(decoded)) ||
    encodingOf(decoded) !== undefined ||
    hint === 'br' ||
    hint === 'deflate'
  if (!isPayload) return undefined
  share.take(decoded.length)
  return decoded
}

/** Passes the white space that JSON may begin with. */
function beginsLikeJson(bytes: Buffer): boolean {
  let at = 0
  while (bytes[at] === SPACE || (bytes[at]! >= 0x09 && bytes[at]! <= 0x0d)) at++
  return (bytes[at] === OPEN_BRACE || bytes[at] === OPEN_BRACKET) && bytes[at + 1] !== 0
}

/** A byte order mark is no part of JSON; some clients write it, and it means nothing in UTF-8. */
function stripMark(bytes: Buffer): Buffer {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes
}

function refuseUtf16(bytes: Buffer): void {
  const [first, second] = bytes
  const marked = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)
  const begins = first === OPEN_BRACE || first === OPEN_BRACKET ? second === 0 : first === 0
  if (marked || (begins && bytes.length > 1)) {
    throw captureError('HR_CAPTURE_NOT_JSON', 'the body is JSON in UTF-16 or UTF-32; it must come in UTF-8')
  }
}
