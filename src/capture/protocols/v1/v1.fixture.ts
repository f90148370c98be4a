/** Requests of v1 as a published SDK would send them, for the tests of the protocol. */
import type { StoredEvent, TestCapture } from '../../../../test/support/capture.ts'
import type { Rejection } from '../../errors.ts'
import type { EventResult } from './results.ts'

export const NOW = Date.parse('2026-11-22T12:00:00Z')
export const TIMESTAMP = '2026-11-22T11:59:00.000Z'
export const PATH = '/i/v1/analytics/events'
export const REQUEST_ID = '0193a7c4-0000-7000-8000-0000000000AA'

export const HEADERS: Readonly<Record<string, string>> = {
  authorization: 'Bearer phc_test',
  'content-type': 'application/json',
  'user-agent': 'posthog-node/5.70.0',
  'posthog-sdk-info': 'posthog-node/5.70.0',
  'posthog-attempt': '1',
  'posthog-request-id': REQUEST_ID,
  'posthog-request-timestamp': '2026-11-22T12:00:00.000Z',
}

/** The n-th uuid of a test. */
export function uuid(n: number): string {
  return `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`
}

/** An event that is taken, but for what `other` says; undefined takes a member out. */
export function event(n: number, other: Record<string, unknown> = {}): Record<string, unknown> {
  return { event: 'e', uuid: uuid(n), distinct_id: 'd', timestamp: TIMESTAMP, properties: { n }, ...other }
}

export function envelope(batch: unknown, other: Record<string, unknown> = {}): Record<string, unknown> {
  return { created_at: TIMESTAMP, batch, ...other }
}

export type V1Answer = {
  results: Record<string, EventResult | { result: 'ok' }>
  rejected?: Rejection[]
  rejected_count?: number
  quota_limited?: string[]
}
export type V1Error = { error: string; error_description: string; error_uri: string }
export type Sent<T> = { response: Response; answer: T; stored: StoredEvent[] }

/** What `body` is answered with, and what it stored beyond what was there before, in the order of the log. */
export async function send<T = V1Answer>(
  capture: TestCapture,
  body: unknown,
  headers: Record<string, string | undefined> = {},
): Promise<Sent<T>> {
  const place = (stored: StoredEvent) => `${stored.topic}/${stored.partition}/${stored.offset}`
  const before = new Set((await capture.stored()).map(place))
  const response = await fetch(capture.url + PATH, {
    method: 'POST',
    headers: Object.entries({ ...HEADERS, ...headers }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
    body:
      typeof body === 'string'
        ? body
        : body instanceof Uint8Array
          ? new Uint8Array(body)
          : JSON.stringify(body),
  })
  const answer = (await response.json()) as T
  const stored = (await capture.stored()).filter((one) => !before.has(place(one)))
  return { response, answer, stored }
}
