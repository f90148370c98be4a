/**
 * One connection to one broker, dialled when first needed and again after it broke. Sockets, TLS, SASL and framing are
 * the library's; what is ours: every request has a deadline, a request that misses it destroys the socket (nothing
 * abandoned stays queued in the client), and nothing is retried here.
 */
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import { type Callback, type ConnectionOptions, ResponseError } from '@platformatic/kafka'
import { logError } from '../errors.ts'
import { isHeadraceError } from './faults.ts'
import { FrameConnection } from './frame-connection.ts'
import type { BrokerAddress, KafkaSettings } from './options.ts'

/** Sends one request over `connection` and calls back once. */
export type Call<T> = (connection: FrameConnection, done: Callback<T>) => void

/** The library's own timer is put out of the way: ours knows how long this request may take. */
const LIBRARY_TIMEOUT_MS = 2_000_000_000
const INFLIGHT_MAX = 64

export class Link {
  private opening: Promise<FrameConnection> | undefined
  private connection: FrameConnection | undefined
  private destroyed = false

  constructor(
    readonly address: BrokerAddress,
    private readonly settings: KafkaSettings,
  ) {}

  get name(): string {
    return `${this.address.host}:${this.address.port}`
  }

  /**
   * The broker's answer, also when it carries error codes: the caller looks at them. Rejects with HR_LOG_UNAVAILABLE
   * when there is no answer within `timeoutMs`; the socket is gone then.
   */
  async ask<T>(call: Call<T>, timeoutMs = this.settings.requestTimeoutMs): Promise<T> {
    const startedMs = performance.now()
    const connection = await this.open()
    const leftMs = Math.max(1, timeoutMs - (performance.now() - startedMs))
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.drop(connection)
        reject(this.unavailable(`no answer within ${timeoutMs} ms`))
      }, leftMs)
      const done: Callback<T> = (error, answer) => {
        clearTimeout(timer)
        if (error === null || error === undefined) resolve(answer as T)
        else if (error instanceof ResponseError) resolve((error as unknown as { response: T }).response)
        else {
          this.drop(connection)
          reject(this.unavailable(error.message, error))
        }
      }
      try {
        call(connection, done)
      } catch (error) {
        clearTimeout(timer)
        reject(error)
      }
    })
  }

  /**
   * Sends a whole request as it lies in memory, and reads its answer. Nothing else may be under way on this link. Rejects
   * as `ask` does, and may then still look at `frame`.
   */
  exchange<T>(frame: Buffer, read: (answer: Buffer) => T, timeoutMs: number): Promise<T> {
    return this.ask<T>((connection, done) => {
      connection.exchange(frame, (error, answer) => {
        if (error || !answer) return done(error)
        let value: T
        try {
          value = read(answer)
        } catch (unreadable) {
          return done(unreadable as Error)
        }
        done(null, value)
      })
    }, timeoutMs)
  }

  private open(): Promise<FrameConnection> {
    if (this.destroyed) return Promise.reject(this.unavailable('the connection was closed'))
    if (this.connection?.isConnected()) return Promise.resolve(this.connection)
    this.opening ??= this.dial().finally(() => {
      this.opening = undefined
    })
    return this.opening
  }

  private async dial(): Promise<FrameConnection> {
    if (this.connection) this.drop(this.connection)
    const connection = new FrameConnection(
      this.settings.clientId,
      connectionOptions(this.settings, this.address),
    )
    this.connection = connection
    // Without a listener an error event would end the process; the callbacks of the requests carry it as well.
    connection.on('error', () => {})
    try {
      await bounded(
        connection.connect(this.address.host, this.address.port) as Promise<void>,
        this.settings.connectTimeoutMs * 2,
      )
    } catch (error) {
      this.drop(connection)
      throw this.unavailable(rootMessage(error), error)
    }
    if (this.destroyed) {
      this.drop(connection)
      throw this.unavailable('the connection was closed')
    }
    return connection
  }

  /** Closes the socket without sending what is still in its buffer. Requests in flight are rejected. */
  private drop(connection: FrameConnection): void {
    if (this.connection === connection) this.connection = undefined
    void connection.close().catch(() => {})
    connection.socket?.destroy()
  }

  /** For good. */
  destroy(): void {
    this.destroyed = true
    if (this.connection) this.drop(this.connection)
  }

  /** The socket only: the next request dials anew. */
  reset(): void {
    if (this.connection) this.drop(this.connection)
  }

  private unavailable(reason: string, cause?: unknown) {
    if (isHeadraceError(cause)) return cause
    return logError('HR_LOG_UNAVAILABLE', `the Kafka broker ${this.name} cannot be used: ${reason}`, cause)
  }
}

function connectionOptions(settings: KafkaSettings, address: BrokerAddress): ConnectionOptions {
  const options: ConnectionOptions = {
    connectTimeout: settings.connectTimeoutMs,
    requestTimeout: LIBRARY_TIMEOUT_MS,
    maxInflights: INFLIGHT_MAX,
  }
  if (settings.tls) {
    const tls: TlsOptions = { rejectUnauthorized: true, minVersion: 'TLSv1.2' }
    if (settings.tls.ca !== undefined) tls.ca = settings.tls.ca
    if (settings.tls.cert !== undefined) tls.cert = settings.tls.cert
    if (settings.tls.key !== undefined) tls.key = settings.tls.key
    options.tls = tls
    const isName = !/^[\d.]+$|:/.test(address.host)
    if (settings.tls.serverName !== undefined) tls.servername = settings.tls.serverName
    else if (isName) tls.servername = address.host
  }
  if (settings.sasl) options.sasl = settings.sasl
  return options
}

/** The innermost message says what happened ("connect ECONNREFUSED"), the outer ones only where. */
function rootMessage(error: unknown): string {
  let inner = error
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause
  return inner instanceof Error ? inner.message || inner.name : String(inner)
}

function bounded<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not connected within ${ms} ms`)), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
