/** Forms of answers that the quiet routes share: fixed JSON, and what browsers and pollers may keep and ask for again. */
import type { Answer } from '../../errors.ts'
import type { CaptureRequest, Route } from '../../request.ts'

export const GET = ['GET'] as const
export const POST = ['POST'] as const
export const GET_OR_POST = ['GET', 'POST'] as const

export const JAVASCRIPT = 'application/javascript; charset=utf-8'

export function json(value: unknown): Answer {
  return { status: 200, body: JSON.stringify(value) }
}

/** A route that always answers the same. */
export function fixed(methods: readonly string[], value: unknown): Route {
  const answer = json(value)
  return { methods, answer: () => answer }
}

/** Something that changes only with our version. `etag` is what a client shows to be told that it has it already. */
export type Kept = { body: string; contentType?: string; etag: string; cacheControl: string }

export function kept(body: string, cacheControl: string, contentType?: string): Kept {
  return { body, cacheControl, etag: etagOf(body), ...(contentType ? { contentType } : {}) }
}

export function etagOf(body: string | Uint8Array): string {
  return `"${Bun.hash(body).toString(36)}"`
}

/** 304 without a body to a client that has it, else the whole. */
export function answerKept(
  incoming: CaptureRequest,
  { body, contentType, etag, cacheControl }: Kept,
): Answer {
  const headers = { etag, 'cache-control': cacheControl }
  if (hasIt(incoming, etag)) return { status: 304, body: '', headers }
  return { status: 200, body, headers, ...(contentType ? { contentType } : {}) }
}

/** Whether the client showed `etag`; proxies that compress mark it as weak. */
export function hasIt({ request }: CaptureRequest, etag: string): boolean {
  const shown = request.headers.get('if-none-match')
  return shown !== null && (shown === '*' || shown.includes(etag))
}
