/**
 * The library's connection, over which requests also go as they lie in memory. The library puts a request together from
 * its parts (a copy of all its bytes into new memory), hands it to the socket in one piece (which copies what the kernel
 * does not take at once) and reads answers through a chain of buffers; for produce requests of megabytes that was a
 * quarter of capture's CPU.
 *
 * In: whole requests, one at a time. Out: the bytes of their answers. Ours have negative correlation ids and the
 * library's positive ones: what is not ours goes on to the library, which logs in again when a session ends.
 *
 * ```
 * idle ─exchange─▶ writing ─all handed over─▶ waiting ─answer─▶ idle          any ─close─▶ the request fails
 * ```
 * What must hold: nothing of the library's stands within a request of ours, or the broker reads nonsense; the request's
 * memory is not looked at any more once it is answered.
 */
import type { Socket } from 'node:net'
import { type Callback, Connection } from '@platformatic/kafka'

/** Where a request's correlation id stands, behind its length, API and version. */
export const CORRELATION_AT = 8
const LENGTH_BYTES = 4
const CORRELATION_BYTES = 4
const SERIAL_MASK = 0x7fffffff
/** About 40 bytes per partition of a request; a length beyond this is no length. */
const ANSWER_BYTES_MAX = 64 << 20
/** The kernel takes this at once more often than not, and what it does not take is copied. */
const PART_BYTES = 256 << 10
const NOTHING = Buffer.alloc(0)

type Pending = { id: number; frame: Buffer; written: number; done: Callback<Buffer> }

export class FrameConnection extends Connection {
  #pending: Pending | undefined
  #serial = 0
  /** The socket whose data pass through here. */
  #tapped: Socket | undefined
  /** The beginning of an answer. */
  #held: Buffer = NOTHING
  #loginDue = false

  /**
   * Sends `frame` (its length in front, room for a correlation id) and calls back once, with what stands behind the
   * answer's correlation id. Only on a connection that is connected, and where no request of the library's is on its way.
   */
  exchange(frame: Buffer, done: Callback<Buffer>): void {
    if (this.#pending) throw new Error('a request is on its way already')
    const socket = this.#tap()
    this.#serial = (this.#serial + 1) & SERIAL_MASK
    const id = ~this.#serial
    frame.writeInt32BE(id, CORRELATION_AT)
    const pending = { id, frame, written: 0, done }
    this.#pending = pending
    this.#write(socket, pending)
  }

  /** The library's timer calls this before a session ends. It waits until no request of ours is on its way. */
  override reauthenticate(): void {
    if (this.#pending) this.#loginDue = true
    else super.reauthenticate()
  }

  #write(socket: Socket, pending: Pending): void {
    const { frame, written } = pending
    const part = frame.subarray(written, written + PART_BYTES)
    pending.written += part.length
    if (pending.written === frame.length) socket.write(part)
    else
      socket.write(part, (error) => {
        if (!error && this.#pending === pending) this.#write(socket, pending)
      })
  }

  #tap(): Socket {
    const { socket } = this
    if (this.#tapped === socket) return socket
    const theirs = socket.listeners('data') as ((chunk: Buffer) => void)[]
    if (theirs.length === 0) throw new Error('the library does not read its socket')
    this.#tapped = socket
    this.#held = NOTHING
    socket.on('data', (chunk: Buffer) => this.#receive(socket, chunk, theirs))
    for (const listener of theirs) socket.off('data', listener)
    socket.on('close', () => this.#settle(new Error('the connection was closed')))
    return socket
  }

  #receive(socket: Socket, chunk: Buffer, theirs: ((chunk: Buffer) => void)[]): void {
    const bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk
    let at = 0
    while (bytes.length - at >= LENGTH_BYTES + CORRELATION_BYTES) {
      const length = bytes.readInt32BE(at)
      if (length < CORRELATION_BYTES || length > ANSWER_BYTES_MAX) {
        this.#refuse(socket, `an answer of ${length} bytes came`)
        return
      }
      const end = at + LENGTH_BYTES + length
      if (end > bytes.length) break
      const id = bytes.readInt32BE(at + LENGTH_BYTES)
      if (id >= 0) for (const listener of theirs) listener.call(socket, bytes.subarray(at, end))
      else if (!this.#isExpected(id)) {
        this.#refuse(socket, 'an answer came to a request that was not sent')
        return
      } else this.#settle(null, bytes.subarray(at + LENGTH_BYTES + CORRELATION_BYTES, end))
      at = end
    }
    this.#held = bytes.subarray(at)
  }

  /** Also one that comes before its request has gone out is none: its memory is still to be sent. */
  #isExpected(id: number): boolean {
    const pending = this.#pending
    return pending !== undefined && pending.id === id && pending.written === pending.frame.length
  }

  #refuse(socket: Socket, reason: string): void {
    this.#held = NOTHING
    socket.destroy()
    this.#settle(new Error(reason))
  }

  #settle(error: Error | null, answer?: Buffer): void {
    const pending = this.#pending
    if (!pending) return
    this.#pending = undefined
    pending.done(error, answer)
    if (!this.#loginDue || error) return
    this.#loginDue = false
    this.reauthenticate()
  }
}
