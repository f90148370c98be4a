/**
 * The one way to a receiver over HTTP. In: a URL and a body. Out: status, the first 64 KiB of the answer and a few of its
 * headers; or a fault with a sentence. What must hold:
 * - Every connection goes to an address that was looked up and judged by us (`address.ts`): the URL that is fetched has the
 *   address in it, the name travels in `Host` and, over TLS, as the name that the certificate is checked for. So there is
 *   no second look-up that could give another address (DNS rebinding).
 * - Redirects are never followed. An answer is read up to its cap and then cut off. Every request has a deadline.
 * Cost: 34 µs of CPU a request, 55 over TLS (Bun's client; `node:http` with a `lookup` of its own takes 175 and 188).
 */
import { lookup } from 'node:dns/promises'
import { deliverMetrics } from '../metrics.ts'
import type { AddressRules } from './address.ts'

export const ANSWER_BYTES_MAX = 65_536
/** A look-up is good for so long: a name that moves is followed, and 5,000 requests a second are not 5,000 look-ups. */
const LOOKUP_KEPT_MS = 5_000
const LOOKUPS_KEPT = 10_000

export type HttpRequest = {
  method: 'POST' | 'PUT' | 'PATCH' | 'GET'
  url: string
  headers: Record<string, string>
  body: string | Uint8Array<ArrayBuffer>
  timeoutMs: number
}

export type HttpAnswer = {
  status: number
  body: string
  header(name: string): string | null
}

/** No answer: the sentence says why. `refused`: by us, before anything was sent. */
export class HttpFault extends Error {
  constructor(
    message: string,
    readonly refused: boolean,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause })
  }
}

export type Resolve = (host: string) => Promise<string[]>

export type HttpClientOptions = {
  rules: AddressRules
  /** All addresses of a name. Default: the system's resolver. */
  resolve?: Resolve
  /** Certificates to trust besides the system's, PEM. */
  ca?: string
  clock?: () => number
}

type Known = { addresses: string[]; untilMs: number }

export class HttpClient {
  private readonly known = new Map<string, Known>()
  private readonly resolve: Resolve
  private readonly clock: () => number
  private turn = 0

  constructor(private readonly options: HttpClientOptions) {
    this.resolve = options.resolve ?? systemResolve
    this.clock = options.clock ?? Date.now
  }

  /** Throws HttpFault; resolves with whatever status came. */
  async send(request: HttpRequest, signal?: AbortSignal): Promise<HttpAnswer> {
    const url = new URL(request.url)
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), request.timeoutMs)
    const stop = () => deadline.abort()
    signal?.addEventListener('abort', stop, { once: true })
    try {
      const address = await this.addressOf(url, deadline.signal)
      const answer = await fetch(withAddress(url, address), {
        method: request.method,
        headers: { ...request.headers, host: url.host, 'accept-encoding': 'identity' },
        ...(request.method === 'GET' ? {} : { body: request.body }),
        redirect: 'manual',
        decompress: false,
        signal: deadline.signal,
        ...(url.protocol === 'https:' ? { tls: this.tlsFor(url.hostname) } : {}),
      })
      const body = await readCapped(answer, deadline)
      return { status: answer.status, body, header: (name) => answer.headers.get(name) }
    } catch (error) {
      if (error instanceof HttpFault) throw error
      if (deadline.signal.aborted)
        throw new HttpFault(
          signal?.aborted ? 'the request was given up' : `no answer within ${request.timeoutMs} ms`,
          false,
          error,
        )
      const { code, message } = error as { code?: string; message: string }
      throw new HttpFault(`no answer from ${url.host}: ${code ?? message}`, false, error)
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
    }
  }

  private tlsFor(hostname: string): Record<string, unknown> {
    const { ca } = this.options
    return { serverName: bare(hostname), ...(ca === undefined ? {} : { ca }) }
  }

  private async addressOf(url: URL, signal: AbortSignal): Promise<string> {
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new HttpFault(`${url.protocol} is not http: or https:`, true)
    return this.judgedAddress(bare(url.hostname), signal)
  }

  /**
   * One that may be connected to; `before`, as long as the name has it, or in turn, when there are several. For what is not
   * HTTP, too. Throws HttpFault.
   */
  async judgedAddress(host: string, signal: AbortSignal, before?: string): Promise<string> {
    const addresses = await this.addressesOf(host, signal)
    const allowed = addresses.filter((address) => this.options.rules.allows(address))
    if (allowed.length === 0) {
      deliverMetrics.blockedAddresses.inc()
      throw new HttpFault(
        `${host} has no public address (${addresses.slice(0, 4).join(', ') || 'none at all'}); HEADRACE_DELIVER_ALLOW names private ones that may be used`,
        true,
      )
    }
    if (before !== undefined && allowed.includes(before)) return before
    return allowed[this.turn++ % allowed.length]!
  }

  private async addressesOf(host: string, signal: AbortSignal): Promise<string[]> {
    const nowMs = this.clock()
    const known = this.known.get(host)
    if (known && known.untilMs > nowMs) return known.addresses
    let giveUp: (() => void) | undefined
    try {
      const addresses = await Promise.race([
        this.resolve(host),
        new Promise<never>((_, reject) => {
          giveUp = () => reject(new Error('no answer from the resolver in time'))
          signal.addEventListener('abort', giveUp, { once: true })
        }),
      ])
      if (this.known.size >= LOOKUPS_KEPT) this.known.clear()
      this.known.set(host, { addresses, untilMs: nowMs + LOOKUP_KEPT_MS })
      return addresses
    } catch (error) {
      throw new HttpFault(`${host} could not be looked up: ${(error as Error).message}`, false, error)
    } finally {
      if (giveUp) signal.removeEventListener('abort', giveUp)
    }
  }
}

async function systemResolve(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true, verbatim: true })
  return found.map(({ address }) => address)
}

/** Without the brackets of an IPv6 address. */
function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}

function withAddress(url: URL, address: string): string {
  const host = address.includes(':') ? `[${address}]` : address
  return `${url.protocol}//${host}${url.port === '' ? '' : `:${url.port}`}${url.pathname}${url.search}`
}

/** The begin of the body as text. What comes behind the cap is never read: the connection is cut. */
async function readCapped(answer: Response, connection: AbortController): Promise<string> {
  if (!answer.body) return ''
  const length = Number(answer.headers.get('content-length') ?? Number.NaN)
  if (length <= ANSWER_BYTES_MAX) return await answer.text()
  const reader = answer.body.getReader()
  const parts: Uint8Array[] = []
  let bytes = 0
  for (;;) {
    const { value, done } = await reader.read()
    if (done) break
    parts.push(value)
    bytes += value.length
    if (bytes < ANSWER_BYTES_MAX) continue
    // Neither waits for the other side.
    reader.cancel().catch(() => {})
    connection.abort()
    break
  }
  return Buffer.concat(parts).subarray(0, ANSWER_BYTES_MAX).toString('utf8')
}
