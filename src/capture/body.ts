/**
 * Reads the body of a request within its limits of size and time. What comes in: a request whose body is on its way;
 * what goes out: all its bytes, or the error that the client gets while its connection still stands.
 *
 * Must hold: what is held in memory is counted in the budget, at most `BODY_WHOLE_BYTES_MAX` of a body ahead of its
 * coming; every wait ends by the clock, by the peer, or by `giveUpAll`. A body that was refused before it was read is
 * discarded by the server as it comes, so that the connection can be used again; where that could go on without end,
 * the answer closes the connection.
 * Cost: a small body, which is nearly all, is one `arrayBuffer()`: a stream costs 17 µs more. No timer per request. Small
 * bodies that came in the same turn of the event loop are handed on together at its end: see there what that gains.
 */
import type { HeadraceError } from '../event/index.ts'
import { counter } from '../observe/index.ts'
import { failpoint } from '../platform/index.ts'
import { EndOfTurn } from './end-of-turn.ts'
import { captureError } from './errors.ts'
import type { InFlightShare } from './limits.ts'

export type BodyLimits = {
  bodyBytesMax: number
  /** From the end of the headers to the end of the body. */
  bodyMs: number
  /** Within this the whole body must come, or `STALL_BYTES` more of it. */
  bodyStallMs: number
}

/** The connection of a request, as far as its answer decides about it. */
export type Connection = { closes: boolean }

/** An announced body up to this is counted before it comes and read at once; a larger one is counted as it comes. */
const BODY_WHOLE_BYTES_MAX = 65_536
/** What must come within each `bodyStallMs`, unless the body ends before. */
const STALL_BYTES = 16_384
/** When the budget is used up, bodies that were awaited for longer than this make room. */
const PRESSURE_WAIT_MS = 1_000
const SWEEP_MS_MAX = 250
/** Of bodies that were cut or refused half way, before they are collected. */
const GARBAGE_BYTES_MAX = 33_554_432

const timeoutsTotal = counter(
  'headrace_capture_body_timeouts_total',
  'Bodies that did not come in time, were stalled, or were given up for others.',
  ['why'],
)

/** A body that is being awaited. */
type Wait = { fromMs: number; stalledAtMs: number; giveUp(error: HeadraceError): void }

/** A small body on its way. */
class WholeBody implements Wait {
  /** All of it, once it has come. */
  bytes: ArrayBuffer | undefined = undefined

  constructor(
    readonly fromMs: number,
    readonly stalledAtMs: number,
    private readonly connection: Connection,
    readonly resolve: (body: Buffer) => void,
    readonly reject: (error: HeadraceError) => void,
  ) {}

  giveUp(error: HeadraceError): void {
    this.connection.closes = true
    this.reject(error)
  }
}

export class BodyReader {
  private readonly waits = new Set<Wait>()
  private readonly come = new EndOfTurn(handOn)
  private readonly timer: ReturnType<typeof setInterval>
  private refusing: HeadraceError | undefined
  private garbageBytes = 0

  constructor(private readonly limits: BodyLimits) {
    this.timer = setInterval(() => this.sweep(), Math.min(SWEEP_MS_MAX, limits.bodyStallMs / 4))
    this.timer.unref()
  }

  /**
   * The whole body. Rejects with HR_CAPTURE_BODY_TOO_LARGE, HR_CAPTURE_BUSY, HR_CAPTURE_BODY_TIMEOUT,
   * HR_CAPTURE_STOPPING, HR_CAPTURE_BODY_CUT, HR_CAPTURE_NO_BODY; its bytes stay in `share` until that is closed.
   */
  read(request: Request, share: InFlightShare, connection: Connection): Promise<Buffer> {
    const announced = request.headers.get('content-length')
    // The server lets several equal lengths pass, which come as "2, 2"; all else that is no number it refuses.
    const length = announced === null ? undefined : Number.parseInt(announced, 10)
    const { bodyBytesMax } = this.limits
    if (length !== undefined && length > bodyBytesMax) {
      connection.closes = length > 2 * bodyBytesMax
      return Promise.reject(bodyTooLarge(`${length} bytes`, bodyBytesMax))
    }
    if (this.refusing) return Promise.reject(this.refusing)
    return length !== undefined && length <= BODY_WHOLE_BYTES_MAX
      ? this.readWhole(request, length, share, connection)
      : this.readPieces(request, share, connection)
  }

  /** From now on every body that has not come, and every new one, is answered with `error`. */
  giveUpAll(error: HeadraceError): void {
    this.refusing = error
    for (const wait of this.waits) this.giveUp(wait, error)
  }

  close(): void {
    clearInterval(this.timer)
  }

  /** What it throws becomes the rejection. No async function, of which each costs a request a promise and a turn. */
  private readWhole(
    request: Request,
    length: number,
    share: InFlightShare,
    connection: Connection,
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.take(share, length)
      const fromMs = performance.now()
      const wait = new WholeBody(fromMs, fromMs + this.limits.bodyStallMs, connection, resolve, reject)
      this.waits.add(wait)
      request.arrayBuffer().then(
        (bytes) => {
          this.waits.delete(wait)
          wait.bytes = bytes
          this.come.add(wait)
        },
        (error: unknown) => {
          this.waits.delete(wait)
          reject(bodyCut(error))
        },
      )
    })
  }

  /** Counts a large or chunked body as it comes. */
  private async readPieces(request: Request, share: InFlightShare, connection: Connection): Promise<Buffer> {
    const reader = request.body?.getReader()
    if (!reader) throw noBody()
    let givenUp: HeadraceError | undefined
    const cancel = () => void reader.cancel().catch(() => undefined)
    const { bodyBytesMax, bodyStallMs } = this.limits
    const fromMs = performance.now()
    const wait: Wait = {
      fromMs,
      stalledAtMs: fromMs + bodyStallMs,
      giveUp: (error) => {
        givenUp = error
        cancel()
      },
    }
    this.waits.add(wait)
    const pieces: Uint8Array[] = []
    let length = 0
    let windowFrom = 0
    try {
      for (;;) {
        const { done, value } = await reader.read().catch((error: unknown) => {
          throw givenUp ?? bodyCut(error)
        })
        if (givenUp) throw givenUp
        if (done) break
        length += value.length
        if (length - windowFrom >= STALL_BYTES) {
          windowFrom = length
          wait.stalledAtMs = performance.now() + bodyStallMs
        }
        if (length <= bodyBytesMax) {
          this.take(share, value.length)
          pieces.push(value)
        } else {
          // The rest is thrown away, within bounds, so that the client has sent all and hears the answer.
          pieces.length = 0
          share.close()
          if (length > 2 * bodyBytesMax) break
        }
      }
    } catch (error) {
      this.threwAway(length)
      // What is still to come is not wanted, and of a chunked body nobody knows how much that is.
      if (givenUp || !request.headers.has('content-length')) connection.closes = true
      cancel()
      throw error
    } finally {
      this.waits.delete(wait)
    }
    if (length <= bodyBytesMax) {
      failpoint('after_read')
      if (length === 0) throw noBody()
      return pieces.length === 1 ? asBuffer(pieces[0]!) : Buffer.concat(pieces)
    }
    if (length > 2 * bodyBytesMax) {
      connection.closes = true
      cancel()
    }
    throw bodyTooLarge(`over ${bodyBytesMax} bytes`, bodyBytesMax)
  }

  /**
   * The engine does not see how large the pieces of a stream are: 5,000 cut uploads of 200 kB left up to 500 MB lying
   * about, and leave 165 MB so. A collection takes about 10 ms.
   */
  private threwAway(bytes: number): void {
    this.garbageBytes += bytes
    if (this.garbageBytes < GARBAGE_BYTES_MAX) return
    this.garbageBytes = 0
    Bun.gc(true)
  }

  private take(share: InFlightShare, bytes: number): void {
    try {
      share.take(bytes)
    } catch (error) {
      this.makeRoom(error as HeadraceError)
      throw error
    }
  }

  private giveUp(wait: Wait, error: HeadraceError): void {
    this.waits.delete(wait)
    wait.giveUp(error)
  }

  private sweep(): void {
    const now = performance.now()
    const { bodyMs, bodyStallMs } = this.limits
    for (const wait of this.waits) {
      if (now >= wait.fromMs + bodyMs) {
        timeoutsTotal.inc({ why: 'total' })
        this.giveUp(wait, bodyTimeout(`the body has not come within ${bodyMs} ms`))
      } else if (now >= wait.stalledAtMs) {
        timeoutsTotal.inc({ why: 'stalled' })
        this.giveUp(
          wait,
          bodyTimeout(
            `less than ${STALL_BYTES} bytes of the body, and not its end, have come in ${bodyStallMs} ms`,
          ),
        )
      }
    }
  }

  /** Who announces much and sends little must not keep others out. The oldest come first. */
  private makeRoom(error: HeadraceError): void {
    const before = performance.now() - PRESSURE_WAIT_MS
    for (const wait of this.waits) {
      if (wait.fromMs > before) break
      timeoutsTotal.inc({ why: 'pressure' })
      this.giveUp(wait, error)
    }
  }
}

function handOn({ bytes, resolve, reject }: WholeBody): void {
  failpoint('after_read')
  if (bytes && bytes.byteLength > 0) resolve(Buffer.from(bytes))
  else reject(noBody())
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function noBody(): HeadraceError {
  return captureError('HR_CAPTURE_NO_BODY', 'the request has no body')
}

function bodyTimeout(what: string): HeadraceError {
  return captureError('HR_CAPTURE_BODY_TIMEOUT', `${what}; send the request again`)
}

function bodyCut(cause: unknown): HeadraceError {
  return captureError('HR_CAPTURE_BODY_CUT', 'the connection ended before the whole body had come', cause)
}

function bodyTooLarge(size: string, bytesMax: number): HeadraceError {
  return captureError('HR_CAPTURE_BODY_TOO_LARGE', `the body has ${size}; ${bytesMax} are allowed`)
}
