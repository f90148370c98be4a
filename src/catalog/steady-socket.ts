/**
 * The socket under the Postgres driver (3.4.9), which otherwise lets queries hang for ever after a cut: it fails its
 * waiting queries when a socket closes, but not when the close follows an error, and those that came in between the
 * two are forgotten. So a close is always reported as one without an error, a turn later than it happened: by then
 * the driver has its listeners on, and what it was about to write is written.
 *
 * And where Postgres has refused a query and closes without saying that it is ready again, as it does after an error that is
 * FATAL, the driver keeps the refusal for the next connection, and tells it to the first query there, which was never sent.
 * So "ready" is said in its place, and the refusal goes to its own query. Not under TLS, where all of this is not seen.
 */
import { Socket } from 'node:net'

const ERROR = 'E'.charCodeAt(0)
const READY = 'Z'.charCodeAt(0)
const HEADER_BYTES = 5
/** Ready, within a transaction that failed. */
const READY_MESSAGE = Buffer.from([READY, 0, 0, 0, 5, ERROR])

/** Cuts what Postgres sends into messages: a byte with the type, four with the length of the rest and of themselves. */
class Messages {
  private readonly header = Buffer.alloc(HEADER_BYTES)
  private headerBytes = 0
  private bodyBytes = 0
  private hasStarted = false
  /** Of the last message, if it is an error. */
  private error: Buffer[] = []

  /** The whole last message, when that refuses a query. */
  get lastError(): Buffer | undefined {
    const isWhole = this.bodyBytes === 0 && this.headerBytes === 0
    return this.hasStarted && isWhole && this.error.length > 0 ? Buffer.concat(this.error) : undefined
  }

  took(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.bodyBytes > 0) {
        const end = Math.min(at + this.bodyBytes, chunk.length)
        if (this.error.length > 0) this.error.push(chunk.subarray(at, end))
        this.bodyBytes -= end - at
        at = end
        continue
      }
      this.header[this.headerBytes++] = chunk[at++]!
      if (this.headerBytes < HEADER_BYTES) continue
      this.headerBytes = 0
      this.bodyBytes = this.header.readUInt32BE(1) - 4
      this.error = this.header[0] === ERROR ? [Buffer.from(this.header)] : []
      this.hasStarted ||= this.header[0] === READY
    }
  }
}

type SocketTarget = { path?: string | undefined; host: string[]; port: number[] }

/** Makes sockets that begin to connect; what is written before is sent when they have. Hosts are taken in turns. */
export function steadySockets(): (target: SocketTarget) => Socket {
  let turn = 0
  return ({ path, host, port }) => {
    const socket = new Socket()
    const emit = socket.emit.bind(socket) as (event: string | symbol, ...args: unknown[]) => boolean
    const messages = new Messages()
    const emitLater = (event: string | symbol, ...args: unknown[]) => {
      if (event === 'data') messages.took(args[0] as Buffer)
      if (event !== 'error' && event !== 'close') return emit(event, ...args)
      setImmediate(() => {
        const refusal = event === 'close' ? messages.lastError : undefined
        // Said again: if it came between two queries, the second must not be taken for done.
        if (refusal) for (const message of [refusal, READY_MESSAGE]) emit('data', message)
        // After the close nobody listens any more, and an error without a listener would end the process.
        if (socket.listenerCount(event) > 0) emit(event, ...(event === 'close' ? [false] : args))
      })
      return true
    }
    socket.emit = emitLater as typeof socket.emit
    const index = turn++ % host.length
    if (path) socket.connect(path)
    else socket.connect(port[index]!, host[index]!)
    return socket
  }
}
