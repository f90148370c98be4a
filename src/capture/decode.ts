/**
 * From a request to the bytes of its JSON: reads the body within its limit, then takes off what SDKs wrap around it:
 * a form's `data=`, base64, gzip. gzip is known by its first bytes, whatever the headers say, because many clients
 * lose the header; only `zlib` with `maxOutputLength` inflates here (Bun's own inflater ignores limits).
 */
import { gunzip, gunzipSync, type ZlibOptions } from 'node:zlib'
import { captureError } from './errors.ts'
import { INFLATE_INLINE_BYTES_MAX, type InFlightShare } from './limits.ts'

export type DecodeLimits = { bodyBytesMax: number; inflatedBytesMax: number }

/**
 * The whole body. Throws HR_CAPTURE_BODY_TOO_LARGE (before reading when the length is announced), HR_CAPTURE_BUSY,
 * HR_CAPTURE_BODY_CUT, HR_CAPTURE_NO_BODY.
 */
export async function readBody(
  request: Request,
  limits: DecodeLimits,
  share: InFlightShare,
): Promise<Buffer> {
  const announced = request.headers.get('content-length')
  const body =
    announced === null
      ? await readUnannounced(request, limits, share)
      : await readAnnounced(request, Number(announced), limits, share)
  if (body.length === 0) throw captureError('HR_CAPTURE_NO_BODY', 'the request has no body')
  return body
}

async function readAnnounced(
  request: Request,
  length: number,
  limits: DecodeLimits,
  share: InFlightShare,
): Promise<Buffer> {
  if (length > limits.bodyBytesMax) throw bodyTooLarge(limits, `${length} bytes`)
  share.take(length)
  try {
    return Buffer.from(await request.arrayBuffer())
  } catch (error) {
    throw bodyCut(error)
  }
}

/** A chunked body: its length shows only as it comes, so it is counted piece by piece. */
async function readUnannounced(
  request: Request,
  limits: DecodeLimits,
  share: InFlightShare,
): Promise<Buffer> {
  if (!request.body) return Buffer.alloc(0)
  const reader = request.body.getReader()
  try {
    return await readPieces(reader, limits, share)
  } catch (error) {
    // What is still to come is not wanted; the answer says why.
    reader.cancel().catch(() => undefined)
    throw error
  }
}

async function readPieces(
  reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
  limits: DecodeLimits,
  share: InFlightShare,
): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for (let length = 0; ; ) {
    const { done, value } = await reader.read().catch((error) => {
      throw bodyCut(error)
    })
    if (done || !value) return Buffer.concat(pieces)
    length += value.length
    if (length > limits.bodyBytesMax) throw bodyTooLarge(limits, `over ${limits.bodyBytesMax} bytes`)
    share.take(value.length)
    pieces.push(value)
  }
}

function bodyCut(cause: unknown) {
  return captureError('HR_CAPTURE_BODY_CUT', 'the connection ended before the whole body had come', cause)
}

function bodyTooLarge(limits: DecodeLimits, size: string) {
  return captureError('HR_CAPTURE_BODY_TOO_LARGE', `the body has ${size}; ${limits.bodyBytesMax} are allowed`)
}

const GZIP_0 = 0x1f
const GZIP_1 = 0x8b
const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b
const FORM_FIELD = /^(data|compression|ver|lib_version|ip|_)=/
const FORM_PREFIX_BYTES = 16
const BASE64_PROBE_BYTES = 128
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/

/**
 * The JSON bytes in `body`. Throws HR_CAPTURE_WRONG_FORM, HR_CAPTURE_WRONG_GZIP, HR_CAPTURE_INFLATED_TOO_LARGE,
 * HR_CAPTURE_BUSY. What is not wrapped comes back as it is, without a copy. Neither the content type nor a
 * `compression=` hint is asked: the bytes themselves say what they are, and the hints are often wrong.
 */
export async function decodeBody(body: Buffer, limits: DecodeLimits, share: InFlightShare): Promise<Buffer> {
  if (beginsLikeJson(body)) return body
  const unwrapped = isGzip(body) ? body : unwrapText(body, share)
  return stripMark(isGzip(unwrapped) ? await inflate(unwrapped, limits, share) : unwrapped)
}

function beginsLikeJson(bytes: Buffer): boolean {
  return bytes[0] === OPEN_BRACE || bytes[0] === OPEN_BRACKET
}

function isGzip(bytes: Buffer): boolean {
  return bytes[0] === GZIP_0 && bytes[1] === GZIP_1
}

/** A byte order mark is no part of JSON; some clients write it, and it means nothing in UTF-8. */
function stripMark(bytes: Buffer): Buffer {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes
}

/** Takes off a form and base64, as sendBeacon and old clients wrap their JSON or gzip. */
function unwrapText(body: Buffer, share: InFlightShare): Buffer {
  if (!FORM_FIELD.test(body.toString('latin1', 0, FORM_PREFIX_BYTES))) return unwrapBase64(body, share)
  share.take(body.length)
  const data = new URLSearchParams(body.toString('utf8')).get('data')
  if (data === null || data === '') {
    throw captureError('HR_CAPTURE_WRONG_FORM', 'the body is a form without a `data` field')
  }
  // A `+` that the client did not escape has become a space; base64 has no spaces, JSON keeps its own.
  const isJson = data.startsWith('{') || data.startsWith('[')
  return isJson ? Buffer.from(data) : unwrapBase64(Buffer.from(data.replaceAll(' ', '+')), share)
}

/** What `text` is the base64 of, when that can be a payload; else `text` itself. */
function unwrapBase64(text: Buffer, share: InFlightShare): Buffer {
  if (!BASE64.test(text.toString('latin1', 0, BASE64_PROBE_BYTES).trimEnd())) return text
  share.take(text.length)
  const decoded = Buffer.from(text.toString('latin1'), 'base64')
  return beginsLikeJson(decoded) || isGzip(decoded) ? decoded : text
}

/** Inflates all gzip members of `body`; small bodies at once, large ones on another thread. */
async function inflate(body: Buffer, limits: DecodeLimits, share: InFlightShare): Promise<Buffer> {
  const options: ZlibOptions = { maxOutputLength: limits.inflatedBytesMax }
  let inflated: Buffer
  try {
    inflated =
      body.length <= INFLATE_INLINE_BYTES_MAX ? gunzipSync(body, options) : await inflateAside(body, options)
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') {
      throw captureError(
        'HR_CAPTURE_INFLATED_TOO_LARGE',
        `the decompressed body has over ${limits.inflatedBytesMax} bytes, which is what is allowed`,
        error,
      )
    }
    throw captureError(
      'HR_CAPTURE_WRONG_GZIP',
      `the body begins like gzip and cannot be decompressed: ${(error as Error).message}`,
      error,
    )
  }
  share.take(inflated.length)
  return inflated
}

function inflateAside(body: Buffer, options: ZlibOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    gunzip(body, options, (error, inflated) => (error ? reject(error) : resolve(inflated)))
  })
}
