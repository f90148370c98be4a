/**
 * The network between one loader and ClickHouse. Now and then an insert is hurt on its way; which way is asked of
 * whoever breaks things, at each insert. Everything else passes.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type ProxyPair, startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts'

export const HURTS = [
  /** A part of it arrives, then the connection ends. */
  'half_sent',
  /** It arrives, and its answer does not. */
  'answer_lost',
  /** Its sender dies while it is on its way, and others have had time to settle it when it arrives. */
  'late',
] as const
export type Hurt = (typeof HURTS)[number]

/** An insert of a table is known by its first chunk, the head of its request. */
const INSERT = 'INSERT'
/** Of a first chunk and what follows it. */
const HALF_BYTES_MAX = 20_000
const LATE_MS_MAX = 4_000
const NOTHING = Buffer.alloc(0)

export class Wire {
  private constructor(private readonly proxy: TcpProxy) {}

  /** `hurt` is asked at each insert; `killSender` ends the loader. */
  static async start(
    to: string,
    random: () => number,
    hurt: () => Hurt | undefined,
    killSender: () => Promise<void>,
  ): Promise<Wire> {
    const { hostname, port } = new URL(to)
    const proxy = await startTcpProxy({ target: { host: hostname, port: Number(port) } })
    const unanswered = new WeakSet<ProxyPair>()
    proxy.onRequest = (pair, chunk) => {
      const how = chunk.includes(INSERT) ? hurt() : undefined
      if (how === 'half_sent') pair.cutAfter(Math.ceil(random() * HALF_BYTES_MAX))
      else if (how === 'answer_lost') unanswered.add(pair)
      else if (how === 'late') void arriveLate(pair, killSender, random() * LATE_MS_MAX)
    }
    proxy.onAnswer = (pair, chunk) => {
      if (!unanswered.has(pair)) return chunk
      pair.cut()
      return NOTHING
    }
    return new Wire(proxy)
  }

  get url(): string {
    return `http://127.0.0.1:${this.proxy.port}`
  }

  close(): Promise<void> {
    return this.proxy.close()
  }
}

/** What was sent until the sender died is held here, and delivered by a network that does not know of its death. */
async function arriveLate(pair: ProxyPair, killSender: () => Promise<void>, ms: number): Promise<void> {
  pair.hold()
  await delay(1)
  await killSender()
  await delay(ms)
  pair.release()
}
