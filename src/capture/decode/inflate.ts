/**
 * Decompresses bodies. What comes in: bytes and the name of their compression; what goes out: the bytes inside.
 *
 * Must hold: the bound is kept while it inflates, so that no body ever takes more than the limit however small it is on
 * the wire. Only `node:zlib` with `maxOutputLength` does that (measured for all five decoders); Bun's own
 * decompressors ignore limits and must not be used. Our thread inflates at most `INLINE_BYTES_MAX`; what is or turns
 * out larger is inflated on another one.
 * Cost: 2 to 4.5 ms per MiB that comes out (gzip, deflate, br), 0.5 to 2 for zstd.
 */
import {
  brotliDecompress,
  brotliDecompressSync,
  gunzip,
  gunzipSync,
  inflate,
  inflateRaw,
  inflateRawSync,
  inflateSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib'
import { captureError } from '../errors.ts'
import { INFLATE_INLINE_BYTES_MAX, type InFlightShare } from '../limits.ts'
import { type Encoding, isZlib } from './encoding.ts'

export type InflateLimits = {
  /** Bytes that may come out. */
  inflatedBytesMax: number
  /** Bytes out per byte in, once more than `RATIO_FREE_BYTES` come out. */
  ratioMax: number
}

type Options = { maxOutputLength: number; chunkSize?: number }
type Done = (error: Error | null, inflated: Buffer) => void
type Inflater = {
  now(packed: Buffer, options: Options): Buffer
  aside(packed: Buffer, options: Options, done: Done): void
}

/** How much may come out whatever the ratio is: small bodies of equal events are no attack. */
export const RATIO_FREE_BYTES = 1_048_576
/** What our own thread inflates at most: about 4 ms. */
const INLINE_BYTES_MAX = 1_048_576
/** Pieces in which a large body comes out; larger ones save no more. */
const LARGE_PIECE_BYTES = 262_144

const INFLATERS: Record<'gzip' | 'zlib' | 'deflateRaw' | 'br' | 'zstd', Inflater> = {
  gzip: { now: gunzipSync, aside: gunzip },
  zlib: { now: inflateSync, aside: inflate },
  deflateRaw: { now: inflateRawSync, aside: inflateRaw },
  br: { now: brotliDecompressSync, aside: brotliDecompress },
  zstd: { now: zstdDecompressSync, aside: zstdDecompress },
}

/**
 * The bytes inside `packed`. Throws HR_CAPTURE_WRONG_GZIP or HR_CAPTURE_WRONG_COMPRESSION, HR_CAPTURE_INFLATED_TOO_LARGE,
 * HR_CAPTURE_RATIO_TOO_HIGH, HR_CAPTURE_BUSY.
 */
export async function inflateBody(
  packed: Buffer,
  encoding: Encoding,
  limits: InflateLimits,
  share: InFlightShare,
): Promise<Buffer> {
  const inflater = INFLATERS[encoding === 'deflate' ? (isZlib(packed) ? 'zlib' : 'deflateRaw') : encoding]
  const bytesMax = outputMax(packed.length, limits)
  let inflated: Buffer | undefined
  try {
    if (packed.length <= INFLATE_INLINE_BYTES_MAX) {
      inflated = inflateHere(packed, inflater, bytesMax)
    }
    inflated ??= await inflateAside(packed, inflater, bytesMax)
  } catch (error) {
    if (isTooLarge(error)) throw tooLarge(packed.length, bytesMax, limits, error)
    throw wrongCompression(encoding, error)
  }
  share.take(inflated.length)
  return inflated
}

/** Undefined when more comes out than our thread should wait for. */
function inflateHere(packed: Buffer, inflater: Inflater, bytesMax: number): Buffer | undefined {
  try {
    return inflater.now(packed, { maxOutputLength: Math.min(bytesMax, INLINE_BYTES_MAX) })
  } catch (error) {
    if (isTooLarge(error) && bytesMax > INLINE_BYTES_MAX) return undefined
    throw error
  }
}

function inflateAside(packed: Buffer, inflater: Inflater, bytesMax: number): Promise<Buffer> {
  const options = { maxOutputLength: bytesMax, chunkSize: LARGE_PIECE_BYTES }
  return new Promise((resolve, reject) => {
    inflater.aside(packed, options, (error, inflated) => (error ? reject(error) : resolve(inflated)))
  })
}

function outputMax(packedBytes: number, { inflatedBytesMax, ratioMax }: InflateLimits): number {
  return Math.min(inflatedBytesMax, Math.max(RATIO_FREE_BYTES, packedBytes * ratioMax))
}

function isTooLarge(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE'
}

function tooLarge(packedBytes: number, bytesMax: number, limits: InflateLimits, cause: unknown) {
  if (bytesMax < limits.inflatedBytesMax) {
    return captureError(
      'HR_CAPTURE_RATIO_TOO_HIGH',
      `the ${packedBytes} bytes of the body decompress to over ${bytesMax}, which is more than ${limits.ratioMax} to one`,
      cause,
    )
  }
  return captureError(
    'HR_CAPTURE_INFLATED_TOO_LARGE',
    `the decompressed body has over ${limits.inflatedBytesMax} bytes, which is what is allowed`,
    cause,
  )
}

function wrongCompression(encoding: Encoding, cause: unknown) {
  const why = (cause as Error).message
  if (encoding === 'gzip') {
    return captureError(
      'HR_CAPTURE_WRONG_GZIP',
      `the body begins like gzip and cannot be decompressed: ${why}`,
      cause,
    )
  }
  return captureError(
    'HR_CAPTURE_WRONG_COMPRESSION',
    `the body cannot be decompressed as ${encoding}: ${why}`,
    cause,
  )
}
