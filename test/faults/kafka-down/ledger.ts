/** What the senders of a fault test were promised, and how they were answered. */
export type SentEvent = {
  distinctId: string
  /** Rising per distinct id. */
  sequence: number
  historical: boolean
  /** Spread by uuid; no order is due to it. */
  personless: boolean
  /** Answered 200. */
  acked: boolean
}

/** Since the last `take`. */
export type Observed = {
  acked: number
  requests: number
  /** Answers of 503 with all that belongs to it. */
  refused: number
  /** Connections that ended with the process, or found none. */
  unconnected: number
  slowestMs: number
}

const nothing = (): Observed => ({ acked: 0, requests: 0, refused: 0, unconnected: 0, slowestMs: 0 })

export class Ledger {
  readonly sent = new Map<string, SentEvent>()
  acked = 0
  /** Answers that no client should ever see. */
  readonly defects: string[] = []
  now: Observed = nothing()

  acknowledge(uuids: readonly string[]): void {
    for (const uuid of uuids) this.sent.get(uuid)!.acked = true
    this.acked += uuids.length
    this.now.acked += uuids.length
  }

  take(): Observed {
    const observed = { ...this.now, slowestMs: Math.round(this.now.slowestMs) }
    this.now = nothing()
    return observed
  }
}
