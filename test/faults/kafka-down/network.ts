/** Faults of the network between capture and Kafka, over the proxies of all brokers at once. */
import type { TcpProxy } from '../../support/tcp-proxy.ts'

export class Network {
  constructor(private readonly proxies: readonly TcpProxy[]) {}

  /** No broker can be reached, and what was connected is cut. */
  cutOff(): void {
    for (const proxy of this.proxies) {
      proxy.refusing = true
      proxy.cutAll()
    }
  }

  /** Each connection once; new ones are taken. */
  cutOnce(): void {
    for (const proxy of this.proxies) proxy.cutAll()
  }

  /** What is sent waits; it arrives when the network heals, also when its sender is dead by then. */
  holdBack(): void {
    for (const proxy of this.proxies) {
      proxy.onRequest = (pair) => pair.hold()
      for (const pair of proxy.pairs) pair.hold()
    }
  }

  /** What is sent arrives after `ms`. */
  slowBy(ms: number): void {
    for (const proxy of this.proxies)
      proxy.onRequest = (pair) => {
        pair.hold()
        setTimeout(() => pair.release(), ms)
      }
  }

  /**
   * Cuts in the middle of the talk with a broker: before a piece of a request has arrived, or after the request has
   * and before its answer has. `chance` is that of each piece.
   */
  cutMidway(chance: number, random: () => number): void {
    for (const proxy of this.proxies) {
      proxy.onRequest = (pair) => {
        if (random() < chance) pair.cut()
      }
      proxy.onAnswer = (pair, chunk) => {
        if (random() < chance) pair.cut()
        return chunk
      }
    }
  }

  readonly heal = (): void => {
    for (const proxy of this.proxies) {
      proxy.onRequest = undefined
      proxy.onAnswer = undefined
      proxy.refusing = false
      for (const pair of proxy.pairs) pair.release()
    }
  }
}
