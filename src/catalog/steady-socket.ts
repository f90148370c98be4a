/**
 * The socket under the Postgres driver (3.4.9), which otherwise lets queries hang for ever after a cut: it fails its
 * waiting queries when a socket closes, but not when the close follows an error, and those that came in between the
 * two are forgotten. So a close is always reported as one without an error, a turn later than it happened: by then
 * the driver has its listeners on, and what it was about to write is written.
 */
import { Socket } from 'node:net'

type SocketTarget = { path?: string | undefined; host: string[]; port: number[] }

/** Makes sockets that begin to connect; what is written before is sent when they have. Hosts are taken in turns. */
export function steadySockets(): (target: SocketTarget) => Socket {
  let turn = 0
  return ({ path, host, port }) => {
    const socket = new Socket()
    const emit = socket.emit.bind(socket) as (event: string | symbol, ...args: unknown[]) => boolean
    const emitLater = (event: string | symbol, ...args: unknown[]) => {
      if (event !== 'error' && event !== 'close') return emit(event, ...args)
      setImmediate(() => {
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
