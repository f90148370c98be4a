/**
 * What a kind of destination has to say: how its options are checked, how many events go into a request, and how one is sent.
 * A target decides nothing about retries, order or pace: it says of each event what the receiver said.
 */
import type { EventView } from '../event-view.ts'
import type { HttpClient } from '../http/client.ts'

/** One event to be sent. `id` is the same at every attempt. */
export type Delivery = { readonly id: string; readonly view: EventView }

export type Verdict = {
  /**
   * `failed`: to be tried again. `refused`: the receiver will never take this one. `gone`: it wants no more at all.
   * `busy`: it asks to wait, which is no fault of the event.
   */
  kind: 'delivered' | 'failed' | 'refused' | 'busy' | 'gone'
  /** HTTP status, 0 when there was no answer. */
  status: number
  /** Begin of the answer, or why there was none. */
  response: string
  /** How long the receiver asks to wait. */
  waitMs?: number
}

export type Target = {
  /** Most events of one request. */
  readonly batchMax: number
  /** One verdict per delivery, in their order. What the receiver does wrong is a verdict; it throws only our own faults. */
  send(deliveries: readonly Delivery[], signal: AbortSignal): Promise<Verdict[]>
  close?(): Promise<void>
}

export type TargetContext = {
  http: HttpClient
  destinationId: string
  teamId: number
  timeoutMs: number
  clock: () => number
}

export type TargetKind = {
  readonly kind: string
  /** Checks the options; throws HR_DESTINATION_INVALID. Secrets are in their places already. */
  open(options: Record<string, unknown>, context: TargetContext): Target
  /** Secrets that are made when they are not given. */
  readonly madeSecrets?: Readonly<Record<string, () => string>>
  /** What its options are when only the secrets of `madeSecrets` are named. */
  readonly defaults?: Record<string, unknown>
}

/** Characters of an answer that are kept. */
const RESPONSE_KEPT = 1_000

export function shorten(text: string): string {
  return text.length > RESPONSE_KEPT ? `${text.slice(0, RESPONSE_KEPT)}…` : text
}

/** When a batch is refused because of one of them: each for itself, so that its neighbours are taken. */
export async function eachAlone(
  deliveries: readonly Delivery[],
  take: (some: readonly Delivery[]) => Promise<Verdict>,
): Promise<Verdict[]> {
  const whole = await take(deliveries)
  if (whole.kind !== 'refused' || deliveries.length === 1) return deliveries.map(() => whole)
  const verdicts: Verdict[] = []
  for (const delivery of deliveries) verdicts.push(await take([delivery]))
  return verdicts
}
