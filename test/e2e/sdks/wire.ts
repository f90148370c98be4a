/**
 * A recording proxy between an SDK and capture: passes every request and answer on as it is, and remembers what was
 * asked and which events were in it. So a test sees what an unmodified SDK really sends, and nothing is sent twice or
 * asked in vain without being noticed.
 */
import { gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib'
import { waitFor } from '../../support/wait-for.ts'

/** An event as an SDK, the wire or the warehouse names it. Some SDKs send no uuid: then the rest must tell it. */
export type SentEvent = { uuid?: string; event: string; distinctId?: string; index?: number }

export type WireRequest = {
  method: string
  /** Without host and query. */
  path: string
  query: URLSearchParams
  headers: Headers
  status: number
}

const EVENT_PATHS: ReadonlySet<string> = new Set([
  '/e/',
  '/i/v0/e/',
  '/batch/',
  '/capture/',
  '/i/v0/ai/batch/',
  '/i/v1/analytics/events',
])

export class Wire {
  readonly requests: WireRequest[] = []
  readonly events: SentEvent[] = []
  private readonly server: Bun.Server<undefined>
  private readonly passing = new Set<Promise<Response>>()

  constructor(private readonly target: string) {
    this.server = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      fetch: (request) => {
        const passed = this.pass(request)
        this.passing.add(passed)
        return passed.finally(() => this.passing.delete(passed))
      },
    })
  }

  /** The host to give to the SDK. */
  get url(): string {
    return this.server.url.origin
  }

  private async pass(request: Request): Promise<Response> {
    const { pathname, search, searchParams } = new URL(request.url)
    const body = request.method === 'POST' ? Buffer.from(await request.arrayBuffer()) : undefined
    const headers = new Headers(request.headers)
    headers.delete('host')
    const answer = await fetch(this.target + pathname + search, {
      method: request.method,
      headers,
      decompress: false,
      redirect: 'manual',
      ...(body ? { body } : {}),
    })
    const { status } = answer
    this.requests.push({
      method: request.method,
      path: pathname,
      query: searchParams,
      headers: request.headers,
      status,
    })
    if (body && EVENT_PATHS.has(pathname)) this.events.push(...eventsIn(body, request.headers))
    const bytes = status === 204 || status === 304 ? null : await answer.bytes()
    return new Response(bytes, { status, headers: answer.headers })
  }

  /**
   * How often each kind of request was made. Sends of events, polls that find nothing new and what a browser asks before
   * it sends count once at most: their number depends on how fast the machine is.
   */
  kinds(): Record<string, number> {
    const kinds: Record<string, number> = {}
    for (const { method, path, query, headers, status } of this.requests) {
      const isFree = method === 'OPTIONS' || status === 304
      const isSend = method === 'POST' && EVENT_PATHS.has(path)
      // Only sendBeacon may not read the answer; `retry_count` is what posthog-js adds when it tries again.
      const beacon = isSend && headers.get('sec-fetch-mode') === 'no-cors' ? ' (beacon)' : ''
      const retry = query.has('retry_count') ? ' (again)' : ''
      const kind = `${method} ${path} ${status}${beacon}${retry}`
      kinds[kind] = isSend || isFree ? 1 : (kinds[kind] ?? 0) + 1
    }
    return kinds
  }

  /** Resolves when all of `events` have passed. */
  async untilPassed(events: readonly SentEvent[], withinMs: number): Promise<void> {
    const missing = () => differences(events, this.events).missing
    await waitFor(
      'all events on the wire',
      async () => missing().length === 0,
      withinMs,
      () => JSON.stringify(missing().slice(0, 5)),
    )
  }

  /** Cuts the senders off; what had already gone on to capture is in `requests` and `events` when this resolves. */
  async stop(): Promise<void> {
    await this.server.stop(true)
    await Promise.allSettled(this.passing)
  }
}

type JsonEvent = { uuid?: string; event: string; distinct_id?: string; properties?: Record<string, unknown> }

function eventsIn(body: Buffer, headers: Headers): SentEvent[] {
  const parsed = JSON.parse(plain(body, headers.get('content-encoding') ?? '').toString()) as
    | JsonEvent
    | JsonEvent[]
    | { batch: JsonEvent[] }
  const events = Array.isArray(parsed) ? parsed : 'batch' in parsed ? parsed.batch : [parsed]
  return events.map(({ uuid, event, distinct_id, properties }) => ({
    ...(uuid ? { uuid } : {}),
    event,
    distinctId: distinct_id ?? String(properties?.distinct_id ?? ''),
    ...(typeof properties?.index === 'number' ? { index: properties.index } : {}),
  }))
}

function plain(body: Buffer, encoding: string): Buffer {
  if (body[0] === 0x1f && body[1] === 0x8b) return gunzipSync(body)
  if (encoding === 'deflate') return inflateSync(body)
  if (encoding === 'zstd') return zstdDecompressSync(body)
  if (!body.toString('latin1', 0, 5).startsWith('data=')) return body
  return Buffer.from(new URLSearchParams(body.toString()).get('data')!, 'base64')
}

/** What is in one list and not, or not as often, in the other. An event with a uuid is told by it and its name. */
export function differences(
  expected: readonly SentEvent[],
  found: readonly SentEvent[],
): { missing: SentEvent[]; extra: SentEvent[] } {
  const uuids = new Set(expected.map(({ uuid }) => uuid))
  const keyOf = ({ uuid, event, distinctId, index }: SentEvent) =>
    uuid !== undefined && uuids.has(uuid) ? `${uuid} ${event}` : `${event} ${distinctId} ${index ?? ''}`
  const open = new Map<string, SentEvent[]>()
  for (const one of expected) open.set(keyOf(one), [...(open.get(keyOf(one)) ?? []), one])
  const extra = found.filter((one) => open.get(keyOf(one))?.pop() === undefined)
  return { missing: [...open.values()].flat(), extra }
}
