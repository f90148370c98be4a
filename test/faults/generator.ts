/**
 * Load for fault tests, from outside and honest about what was promised: every uuid that was answered 200 is
 * remembered. Each sender owns its distinct ids and sends its next batch only when the one before was acknowledged,
 * repeating it until then; so the order of its sequence numbers must be the order in the log (I3).
 */
import { uuidV7 } from '../../src/event/index.ts'

export type GeneratorOptions = {
  captureUrl: string
  token: string
  senders: number
  batchEvents: number
  /** Per sender. */
  batchesPerSecond: number
}

/** What was sent, by uuid. `acked` means: answered 200. */
export type SentEvent = { distinctId: string; sequence: number; acked: boolean }

const REQUEST_DEADLINE_MS = 10_000
const RETRY_MS = 100

export class Generator {
  readonly sent = new Map<string, SentEvent>()
  /** Requests that did not get a 200, by what they got. */
  readonly refusals = new Map<string, number>()
  private running = true
  private readonly senders: Promise<void>[]

  constructor(private readonly options: GeneratorOptions) {
    this.senders = Array.from({ length: options.senders }, (_, i) => this.run(i))
  }

  get acked(): number {
    let count = 0
    for (const event of this.sent.values()) if (event.acked) count++
    return count
  }

  /** No new batches; resolves when those at hand are acknowledged. */
  async stop(): Promise<void> {
    this.running = false
    await Promise.all(this.senders)
  }

  private async run(sender: number): Promise<void> {
    const { batchEvents, batchesPerSecond } = this.options
    let sequence = 0
    while (this.running) {
      const started = performance.now()
      const batch = Array.from({ length: batchEvents }, () => this.event(sender, sequence++))
      await this.deliver(batch)
      const rest = 1000 / batchesPerSecond - (performance.now() - started)
      if (rest > 0 && this.running) await Bun.sleep(rest)
    }
  }

  /** Every third event changes its person; every tenth id is new and identifies itself. */
  private event(sender: number, sequence: number): { uuid: string } {
    const distinctId = `sender-${sender}-${sequence % 7}`
    const uuid = uuidV7(Date.now())
    this.sent.set(uuid, { distinctId, sequence, acked: false })
    const identify = sequence % 70 < 7
    return {
      uuid,
      event: identify ? '$identify' : 'load',
      distinct_id: distinctId,
      timestamp: new Date().toISOString(),
      properties: {
        sequence,
        filler: 'x'.repeat(300),
        ...(identify ? { $anon_distinct_id: `${distinctId}-anon-${sequence}` } : {}),
        ...(sequence % 3 === 0 ? { $set: { last_sequence: sequence } } : {}),
      },
    } as { uuid: string }
  }

  private async deliver(batch: { uuid: string }[]): Promise<void> {
    const body = JSON.stringify({ api_key: this.options.token, batch, sent_at: new Date().toISOString() })
    for (;;) {
      const answer = await this.post(body)
      if (answer === '200') {
        for (const { uuid } of batch) this.sent.get(uuid)!.acked = true
        return
      }
      this.refusals.set(answer, (this.refusals.get(answer) ?? 0) + 1)
      if (answer.startsWith('4')) throw new Error(`capture refuses the load: ${answer}`)
      await Bun.sleep(RETRY_MS)
    }
  }

  private async post(body: string): Promise<string> {
    try {
      const response = await fetch(`${this.options.captureUrl}/batch/`, {
        method: 'POST',
        body,
        signal: AbortSignal.timeout(REQUEST_DEADLINE_MS),
      })
      const text = await response.text()
      return response.status === 200 || response.status >= 500
        ? String(response.status)
        : `${response.status} ${text}`
    } catch (error) {
      return (error as Error).name
    }
  }
}
