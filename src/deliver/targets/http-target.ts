/**
 * What all targets that are an HTTP API have in common: one request per delivery or batch, and what its answer says of its
 * events. A kind says how its request is made, and, if its API answers in a way of its own, what that means.
 */
import { type HttpAnswer, HttpFault, type HttpRequest } from '../http/client.ts'
import { verdictOf, verdictOfFault } from '../http/verdict.ts'
import type { Delivery, Target, TargetContext, Verdict } from './target.ts'

export type MadeRequest = Omit<HttpRequest, 'timeoutMs' | 'method'> & { method?: HttpRequest['method'] }

export type HttpTargetOptions = {
  batchMax: number
  /** Pure, or waits for a token. Throws HttpFault when there is none. */
  request(deliveries: readonly Delivery[]): MadeRequest | Promise<MadeRequest>
  /** Of an answer that is not as usual; undefined: by its status. */
  judge?(answer: HttpAnswer, deliveries: readonly Delivery[]): Verdict[] | undefined
}

export function httpTarget(context: TargetContext, options: HttpTargetOptions): Target {
  return {
    batchMax: options.batchMax,
    async send(deliveries, signal) {
      try {
        const made = await options.request(deliveries)
        const { timeoutMs } = context
        const answer = await context.http.send({ method: 'POST', timeoutMs, ...made }, signal)
        const judged = options.judge?.(answer, deliveries)
        if (judged) return judged
        const verdict = verdictOf(answer, context.clock())
        return deliveries.map(() => verdict)
      } catch (error) {
        if (!(error instanceof HttpFault)) throw error
        const verdict = verdictOfFault(error)
        return deliveries.map(() => verdict)
      }
    },
  }
}

export const JSON_HEADERS = { 'content-type': 'application/json', 'user-agent': 'headrace' } as const

/** For HTTP's Basic scheme. */
export function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}

/** A batch as one body: `begin`, the items with commas, `end`. */
export function jsonBody(items: readonly unknown[], begin: string, end: string): string {
  return `${begin}${items.map((item) => JSON.stringify(item)).join(',')}${end}`
}
