/**
 * Any JSON API: method, URL and body are templates, and the access may be a token of OAuth 2's client credentials (RFC 6749,
 * 4.4), which is asked for once, kept until shortly before its end, and asked for again when it is refused.
 */
import { type HttpAnswer, HttpFault } from '../http/client.ts'
import { Options } from '../options.ts'
import { compileTemplate } from '../template.ts'
import { basic, httpTarget, JSON_HEADERS } from './http-target.ts'
import type { TargetContext, TargetKind } from './target.ts'

/** Before the token ends, it is asked for again. */
const TOKEN_EARLY_MS = 60_000
const TOKEN_KEPT_MS = 300_000

export const REST: TargetKind = {
  kind: 'rest',
  open(values, context) {
    const options = new Options('rest', values)
    const method = options.choice('method', ['POST', 'PUT', 'PATCH'], 'POST')
    const template = options.text('url')
    const url = compileTemplate(template)
    const headers = options.texts('headers')
    const body = compileTemplate(
      options.any('body') ?? { event: '{event}', distinct_id: '{distinct_id}', properties: '{properties}' },
    )
    const idHeader = options.text('id_header', 'idempotency-key')
    const oauth = options.any('oauth')
    options.done()
    if (!/^https?:\/\/[^/{}]+(\/|$)/.test(template))
      throw options.invalid('url', 'an http or https URL whose host is no template')
    const tokens = oauth === undefined ? undefined : new TokenSource(oauth, context)
    return httpTarget(context, {
      batchMax: 1,
      async request([delivery]) {
        const { id, view } = delivery!
        const fields = { ...view.fields, id }
        const authorization = await tokens?.get()
        return {
          method,
          url: String(url(encoded(fields))),
          headers: {
            ...JSON_HEADERS,
            [idHeader]: id,
            ...headers,
            ...(authorization ? { authorization } : {}),
          },
          body: JSON.stringify(body(fields)) ?? 'null',
        }
      },
      judge(answer) {
        if (answer.status === 401) tokens?.forget()
        return undefined
      },
    })
  },
}

/** Values as parts of a URL: none of them may begin another path or query. */
function encoded(value: unknown): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value as object).map(([key, one]) => {
      if (typeof one === 'string') return [key, encodeURIComponent(one)]
      return [key, typeof one === 'object' && one !== null ? encoded(one) : one]
    }),
  )
}

class TokenSource {
  private readonly url: string
  private readonly body: string
  private readonly authorization: string
  private known: { authorization: string; untilMs: number } | undefined
  private asking: Promise<string> | undefined

  constructor(
    values: unknown,
    private readonly context: TargetContext,
  ) {
    const options = new Options('rest (oauth)', values as Record<string, unknown>)
    this.url = options.url('token_url')
    this.authorization = basic(
      encodeURIComponent(options.text('client_id')),
      encodeURIComponent(options.text('client_secret')),
    )
    const scope = options.optionalText('scope')
    options.done()
    this.body = new URLSearchParams({
      grant_type: 'client_credentials',
      ...(scope ? { scope } : {}),
    }).toString()
  }

  forget(): void {
    this.known = undefined
  }

  /** Throws HttpFault. */
  async get(): Promise<string> {
    if (this.known && this.context.clock() < this.known.untilMs) return this.known.authorization
    this.asking ??= this.ask().finally(() => {
      this.asking = undefined
    })
    return this.asking
  }

  private async ask(): Promise<string> {
    const { http, timeoutMs, clock } = this.context
    const answer = await http.send({
      method: 'POST',
      url: this.url,
      headers: { 'content-type': 'application/x-www-form-urlencoded', authorization: this.authorization },
      body: this.body,
      timeoutMs,
    })
    const { access_token, expires_in } = readToken(answer)
    const authorization = `Bearer ${access_token}`
    const keptMs = Math.max(0, expires_in * 1_000 - TOKEN_EARLY_MS)
    this.known = { authorization, untilMs: clock() + keptMs }
    return authorization
  }
}

function readToken(answer: HttpAnswer): { access_token: string; expires_in: number } {
  let parsed: { access_token?: unknown; expires_in?: unknown } = {}
  try {
    parsed = JSON.parse(answer.body) as typeof parsed
  } catch {
    // Told below, by what is missing.
  }
  const { access_token, expires_in } = parsed
  if (answer.status !== 200 || typeof access_token !== 'string')
    throw new HttpFault(`no token: ${answer.status} ${answer.body.slice(0, 200)}`, false)
  return {
    access_token,
    expires_in: typeof expires_in === 'number' ? expires_in : (TOKEN_KEPT_MS + TOKEN_EARLY_MS) / 1_000,
  }
}
