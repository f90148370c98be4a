/**
 * Webhook: events as signed JSON to a URL (Standard Webhooks). One event a request,
 * `{"type":"event","timestamp":…,"data":{…}}`, or up to `batch` of them, `{"type":"events","timestamp":…,"data":[{"id":…, …}]}`.
 *
 * Ids: `webhook-id` of a single event, and `id` of each in a batch, are the same at every attempt; that of a batch is made
 * of its ids. A receiver of batches may answer for each: `{"results":[{"id":…,"status":"ok"|"retry"|"refused"}]}` with a
 * 2xx; those that it does not name were taken.
 */
import { deliveryUuid } from '../../event/index.ts'
import { type HttpAnswer, HttpFault } from '../http/client.ts'
import { newSigningSecret, Signer } from '../http/sign.ts'
import { verdictOf, verdictOfFault } from '../http/verdict.ts'
import { Options } from '../options.ts'
import { compileTemplate, type Fields } from '../template.ts'
import {
  type Delivery,
  shorten,
  type Target,
  type TargetContext,
  type TargetKind,
  type Verdict,
} from './target.ts'

const BATCH_MAX = 1_000
/** Results that cannot be parsed. */
const CUT_RESULTS = /^\s*\{\s*"results"/
const OWN_HEADERS = /^(webhook-.*|content-length|host|connection|transfer-encoding|accept-encoding)$/i

export const WEBHOOK: TargetKind = {
  kind: 'webhook',
  madeSecrets: { signing: newSigningSecret },
  defaults: { signing: { secret: 'signing' } },
  open(values, context) {
    const options = new Options('webhook', values)
    const url = options.url('url')
    const method = options.choice('method', ['POST', 'PUT', 'PATCH'], 'POST')
    const batchMax = options.whole('batch', 1, BATCH_MAX, 1)
    const headers = options.texts('headers')
    const signing = options.optionalText('signing')
    const body = options.any('body')
    options.done()
    const own = Object.keys(headers).find((name) => OWN_HEADERS.test(name))
    if (own !== undefined) throw options.invalid('headers', `without ${own}, which we set ourselves`)
    if (body !== undefined && batchMax > 1)
      throw options.invalid('body', 'left out when events are sent in batches')
    const render = body === undefined ? undefined : compileTemplate(body)
    return new Webhook(context, { url, method, batchMax, headers, render }, new Signer(signing ?? ''))
  },
}

type Wanted = {
  url: string
  method: 'POST' | 'PUT' | 'PATCH'
  batchMax: number
  headers: Record<string, string>
  render: ((fields: Fields) => unknown) | undefined
}

class Webhook implements Target {
  readonly batchMax: number
  private readonly headers: Record<string, string>

  constructor(
    private readonly context: TargetContext,
    private readonly wanted: Wanted,
    private readonly signer: Signer,
  ) {
    this.batchMax = wanted.batchMax
    this.headers = { 'content-type': 'application/json', 'user-agent': 'headrace', ...wanted.headers }
  }

  async send(deliveries: readonly Delivery[], signal: AbortSignal): Promise<Verdict[]> {
    const { context, wanted } = this
    const nowMs = context.clock()
    const { id, body } = this.message(deliveries, nowMs)
    try {
      const answer = await context.http.send(
        {
          method: wanted.method,
          url: wanted.url,
          headers: { ...this.headers, ...this.signer.headers(id, Math.floor(nowMs / 1_000), body) },
          body,
          timeoutMs: context.timeoutMs,
        },
        signal,
      )
      const verdict = verdictOf(answer, context.clock())
      if (wanted.batchMax > 1 && verdict.kind === 'delivered') return perItem(deliveries, answer, verdict)
      return deliveries.map(() => verdict)
    } catch (error) {
      if (!(error instanceof HttpFault)) throw error
      const verdict = verdictOfFault(error)
      return deliveries.map(() => verdict)
    }
  }

  private message(deliveries: readonly Delivery[], nowMs: number): { id: string; body: string } {
    const timestamp = new Date(nowMs).toISOString()
    if (this.wanted.batchMax === 1) {
      const [{ id, view }] = deliveries as [Delivery]
      const { render } = this.wanted
      if (render) return { id, body: JSON.stringify(render({ ...view.fields, id })) ?? 'null' }
      return { id, body: `{"type":"event","timestamp":"${timestamp}","data":${view.json}}` }
    }
    const items = deliveries.map(({ id, view }) => `{"id":"${id}",${view.json.slice(1)}`)
    const id = deliveryUuid(this.context.destinationId, deliveries.map((one) => one.id).join())
    return { id, body: `{"type":"events","timestamp":"${timestamp}","data":[${items.join(',')}]}` }
  }
}

/** What the receiver says of each; an answer in another form speaks for all. */
function perItem(deliveries: readonly Delivery[], answer: HttpAnswer, whole: Verdict): Verdict[] {
  const results = readResults(answer.body)
  if (!results) {
    if (!CUT_RESULTS.test(answer.body)) return deliveries.map(() => whole)
    // Who was refused stands behind what we read.
    const response = 'its results cannot be read: they are longer than 64 KiB, or not JSON'
    return deliveries.map(() => ({ kind: 'failed', status: whole.status, response }))
  }
  return deliveries.map(({ id }) => {
    const said = results.get(id)
    if (said === undefined || said.status === 'ok') return whole
    const kind = said.status === 'refused' ? 'refused' : 'failed'
    return { kind, status: whole.status, response: shorten(said.message ?? said.status) }
  })
}

type ItemResult = { status: string; message: string | undefined }

function readResults(body: string): Map<string, ItemResult> | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return undefined
  }
  const list = (parsed as { results?: unknown } | null)?.results
  if (!Array.isArray(list)) return undefined
  const results = new Map<string, ItemResult>()
  for (const item of list as { id?: unknown; status?: unknown; message?: unknown }[]) {
    if (typeof item?.id !== 'string' || typeof item.status !== 'string') continue
    results.set(item.id, {
      status: item.status,
      message: typeof item.message === 'string' ? item.message : undefined,
    })
  }
  return results
}
