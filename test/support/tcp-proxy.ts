/**
 * A TCP proxy that tests stand between a client and a server to break the network on purpose. It can cut connections,
 * hold back what the client sends (and let it go later, even after the client is gone), and swallow what the server
 * answers. It knows nothing of the protocol; a test that needs to aim looks at the chunks with `onRequest`.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'

export type ProxyPair = {
  readonly id: number
  /** True while the client's side is open. */
  readonly clientOpen: boolean
  /** From now on the client's bytes wait here; the server's connection stays open even when the client leaves. */
  hold(): void
  /** Sends what was held and lets further bytes through. */
  release(): void
  /** From now on the server's bytes are thrown away. */
  swallowAnswers(): void
  /** Closes both sides at once. */
  cut(): void
  /** Lets so many further bytes of the client arrive, then closes both sides. */
  cutAfter(bytes: number): void
  /** Bytes of the client that wait here. */
  readonly heldBytes: number
  /** Bytes of the server that were thrown away. */
  readonly swallowedBytes: number
}

export type TcpProxy = {
  readonly port: number
  readonly pairs: ReadonlySet<ProxyPair>
  /** Sees each chunk of a client before it goes on; may call `hold`, `swallowAnswers` or `cut` on the pair. */
  onRequest: ((pair: ProxyPair, chunk: Buffer) => void) | undefined
  /** Sees each chunk of a server before it goes on; may give another one to send instead. */
  onAnswer: ((pair: ProxyPair, chunk: Buffer) => Buffer) | undefined
  /** New connections are refused while true. */
  refusing: boolean
  cutAll(): void
  close(): Promise<void>
}

class Pair implements ProxyPair {
  private held: Buffer[] = []
  private holding = false
  private swallowing = false
  private bytesLeft = Number.POSITIVE_INFINITY
  clientOpen = true
  heldBytes = 0
  swallowedBytes = 0

  constructor(
    readonly id: number,
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly proxy: FaultyProxy,
  ) {
    client.on('data', (chunk: Buffer) => {
      proxy.onRequest?.(this, chunk)
      if (this.holding) {
        this.held.push(chunk)
        this.heldBytes += chunk.length
      } else if (!server.destroyed) this.pass(chunk)
    })
    server.on('data', (chunk: Buffer) => {
      if (this.swallowing || client.destroyed) this.swallowedBytes += chunk.length
      else client.write(proxy.onAnswer?.(this, chunk) ?? chunk)
    })
    client.on('error', () => {})
    server.on('error', () => {})
    client.on('close', () => {
      this.clientOpen = false
      // What is held may still be released to the server, as a slow network would do after the client gave up.
      if (!this.holding) this.end()
    })
    server.on('close', () => this.end())
  }

  hold(): void {
    this.holding = true
  }

  release(): void {
    this.holding = false
    for (const chunk of this.held) if (!this.server.destroyed) this.server.write(chunk)
    this.held = []
    this.heldBytes = 0
    if (!this.clientOpen) this.server.end()
  }

  swallowAnswers(): void {
    this.swallowing = true
  }

  cut(): void {
    this.end()
  }

  cutAfter(bytes: number): void {
    this.bytesLeft = bytes
  }

  private pass(chunk: Buffer): void {
    if (chunk.length < this.bytesLeft) {
      this.bytesLeft -= chunk.length
      this.server.write(chunk)
      return
    }
    this.client.pause()
    this.server.write(chunk.subarray(0, this.bytesLeft), () => this.end())
  }

  private end(): void {
    this.client.destroy()
    this.server.destroy()
    this.proxy.pairs.delete(this)
  }
}

class FaultyProxy implements TcpProxy {
  readonly pairs = new Set<ProxyPair>()
  onRequest: TcpProxy['onRequest']
  onAnswer: TcpProxy['onAnswer']
  refusing = false
  port = 0
  private ids = 0

  constructor(
    private readonly server: Server,
    target: { host: string; port: number },
  ) {
    server.on('connection', (client) => {
      if (this.refusing) {
        client.destroy()
        return
      }
      client.setNoDelay(true)
      const upstream = connect(target.port, target.host)
      upstream.setNoDelay(true)
      this.pairs.add(new Pair(this.ids++, client, upstream, this))
    })
  }

  cutAll(): void {
    for (const pair of [...this.pairs]) pair.cut()
  }

  close(): Promise<void> {
    this.cutAll()
    return new Promise((done) => this.server.close(() => done()))
  }
}

/** Listens on a free loopback port and forwards to `target`. */
export async function startTcpProxy(options: { target: { host: string; port: number } }): Promise<TcpProxy> {
  const server = createServer()
  const proxy = new FaultyProxy(server, options.target)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  proxy.port = address.port
  return proxy
}
