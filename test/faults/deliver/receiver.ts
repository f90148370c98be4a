/**
 * A receiver that misbehaves by chance: says to wait, fails, hangs, takes the events and cuts the line, redirects, answers
 * without end. It remembers what it took, by id, and whether it told so.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const MOODS = ['ok', 'wait', 'fail', 'hang', 'cut', 'redirect', 'endless'] as const
export type Mood = (typeof MOODS)[number]

/** An event as it came. */
export type Taken = { id: string; destination: string; distinctId: string; n: number }

export class MoodyReceiver {
  /** In the order of the answers: events of requests that were answered with success. */
  readonly told: Taken[] = []
  readonly met: Partial<Record<Mood, number>> = {}
  /** Requests that followed a redirect: there must be none. */
  followed = 0
  private server: Server
  private nextMood: () => Mood = () => 'ok'

  private constructor() {
    this.server = createServer((request, response) => void this.serve(request, response))
  }

  static async start(): Promise<MoodyReceiver> {
    const receiver = new MoodyReceiver()
    await new Promise<void>((resolve) => receiver.server.listen(0, '127.0.0.1', resolve))
    return receiver
  }

  /** `share` of the requests are met with something else than success. */
  moody(share: number, random: () => number): void {
    this.nextMood = () => (random() < share ? MOODS[1 + Math.floor(random() * (MOODS.length - 1))]! : 'ok')
  }

  url(destination: string): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/${destination}`
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const destination = request.url!.slice(1)
    if (destination === 'elsewhere') this.followed++
    const events = readEvents(
      destination,
      String(request.headers['webhook-id']),
      Buffer.concat(parts).toString(),
    )
    const mood = this.nextMood()
    this.met[mood] = (this.met[mood] ?? 0) + 1
    switch (mood) {
      case 'ok':
        this.told.push(...events)
        response.end('{}')
        return
      case 'wait':
        response.writeHead(429, { 'retry-after': '1' }).end()
        return
      case 'fail':
        response.writeHead(500).end('no')
        return
      case 'hang':
        return
      case 'cut':
        request.socket.destroy()
        return
      case 'redirect':
        response.writeHead(302, { location: '/elsewhere' }).end()
        return
      case 'endless':
        this.told.push(...events)
        stream(response)
    }
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections()
    await new Promise((resolve) => this.server.close(resolve))
  }
}

function stream(response: ServerResponse): void {
  const part = Buffer.alloc(65_536, 'x')
  const more = () => {
    while (!response.destroyed && response.write(part));
  }
  response.on('drain', more)
  response.on('error', () => {})
  more()
}

function readEvents(destination: string, webhookId: string, body: string): Taken[] {
  type Event = { id?: string; distinct_id: string; properties: { n: number } }
  const { data } = JSON.parse(body) as { data: Event | Event[] }
  return [data].flat().map(({ id, distinct_id, properties }) => ({
    id: id ?? webhookId,
    destination,
    distinctId: distinct_id,
    n: properties.n,
  }))
}
