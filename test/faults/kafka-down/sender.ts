/**
 * A client of one capture process, as an SDK is: it sends its next batch when the one before was acknowledged, and
 * sends the same bytes with the same uuids again until then. Each answer is held to what is promised: 200 with the
 * exact body; or 503 with `Retry-After` and CORS; within 8 s; a connection ends without an answer only when the
 * process does.
 */
import { uuidV7 } from '../../../src/event/index.ts'
import type { CaptureProcess } from './capture-process.ts'
import type { Ledger, SentEvent } from './ledger.ts'

export const ANSWER_MS_MAX = 8_000
/** What SDKs give a request; an answer that takes so long has failed the promise anyway. */
const GIVE_UP_MS = 10_000
/** We hear of the end of a process after its connections did. */
const END_HEARD_MS = 2_000
const REFUSED_PAUSE_MS = 100
/** While the process is down it is looked for so often, and asked at last after `DOWN_MS_MAX`. */
const UNCONNECTED_PAUSE_MS = 25
const DOWN_MS_MAX = 2_000
const FILLER_BYTES = 150
const OK = '{"status":"Ok"}'

type Body = string | Uint8Array<ArrayBuffer>

export type SenderKind = { events: number; gzip: boolean; historical: boolean }

/** One of each, in turn: a browser's single events, a server's batches, an import in its own lane. */
export const SENDER_KINDS: readonly SenderKind[] = [
  { events: 10, gzip: false, historical: false },
  { events: 1, gzip: false, historical: false },
  { events: 20, gzip: true, historical: true },
]
const DISTINCT_IDS = 3
const PERSONLESS_EVERY = 10

export class Sender {
  private sequence = 0
  private ending = false
  private readonly running: Promise<void>

  constructor(
    private readonly name: string,
    private readonly kind: SenderKind,
    private readonly capture: CaptureProcess,
    private readonly token: string,
    private readonly everyMs: number,
    private readonly ledger: Ledger,
  ) {
    this.running = this.run()
  }

  /** Resolves when what is at hand is acknowledged. */
  async end(): Promise<void> {
    this.ending = true
    await this.running
  }

  private async run(): Promise<void> {
    while (!this.ending) {
      const from = performance.now()
      const uuids: string[] = []
      const batch = Array.from({ length: this.kind.events }, () => this.event(uuids))
      const members = { api_key: this.token, sent_at: new Date().toISOString(), batch }
      const text = JSON.stringify(this.kind.historical ? { ...members, historical_migration: true } : members)
      await this.deliver(this.kind.gzip ? Bun.gzipSync(text) : text)
      this.ledger.acknowledge(uuids)
      const restMs = this.everyMs - (performance.now() - from)
      if (restMs > 0 && !this.ending) await Bun.sleep(restMs)
    }
  }

  private event(uuids: string[]): object {
    const sequence = this.sequence++
    const distinctId = `${this.name}-${sequence % DISTINCT_IDS}`
    const personless = sequence % PERSONLESS_EVERY === 0
    const uuid = uuidV7(Date.now())
    const sent: SentEvent = {
      distinctId,
      sequence,
      historical: this.kind.historical,
      personless,
      acked: false,
    }
    this.ledger.sent.set(uuid, sent)
    uuids.push(uuid)
    const filler = Buffer.from(crypto.getRandomValues(new Uint8Array(FILLER_BYTES))).toString('base64')
    return {
      uuid,
      event: 'load',
      distinct_id: distinctId,
      timestamp: new Date().toISOString(),
      properties: { sequence, filler, ...(personless ? { $process_person_profile: false } : {}) },
    }
  }

  private async deliver(body: Body): Promise<void> {
    for (;;) {
      const answer = await this.post(body)
      if (answer === 'stored') return
      if (answer === 'refused') await Bun.sleep(REFUSED_PAUSE_MS)
      else await this.restarted()
    }
  }

  private async restarted(): Promise<void> {
    const until = performance.now() + DOWN_MS_MAX
    do await Bun.sleep(UNCONNECTED_PAUSE_MS)
    while (!this.capture.isUp && performance.now() < until)
  }

  private async post(body: Body): Promise<'stored' | 'refused' | 'unconnected'> {
    const { now } = this.ledger
    const { ended, isUp } = this.capture
    const from = performance.now()
    now.requests++
    let response: Response
    let text: string
    try {
      response = await fetch(`${this.capture.url}/batch/`, {
        method: 'POST',
        body,
        headers: { origin: 'https://shop.example' },
        // With it, the client would silently send again what a dead process did not answer.
        keepalive: false,
        signal: AbortSignal.timeout(GIVE_UP_MS),
      })
      text = await response.text()
    } catch (error) {
      now.unconnected++
      if (isUp) await this.excuse(error as Error, ended, performance.now() - from)
      return 'unconnected'
    }
    const tookMs = performance.now() - from
    now.slowestMs = Math.max(now.slowestMs, tookMs)
    if (tookMs > ANSWER_MS_MAX) this.defect(`an answer of ${response.status} took ${Math.round(tookMs)} ms`)
    if (response.status === 200 && text === OK) return 'stored'
    now.refused++
    const { headers } = response
    const isWhole = Number(headers.get('retry-after')) > 0 && headers.has('access-control-allow-origin')
    if (response.status !== 503 || !isWhole)
      this.defect(`the answer ${response.status} ${JSON.stringify([...headers])} ${text}`)
    return 'refused'
  }

  /** Fine when the process has ended since the request began. */
  private async excuse(error: Error, ended: number, tookMs: number): Promise<void> {
    for (const until = performance.now() + END_HEARD_MS; performance.now() < until; await Bun.sleep(20))
      if (this.capture.ended > ended) return
    this.defect(`no answer from a process that lives: ${error.name} after ${Math.round(tookMs)} ms`)
  }

  private defect(what: string): void {
    this.ledger.defects.push(`${this.name}: ${what}`)
  }
}
