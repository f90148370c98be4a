/**
 * What a producer must know of a topic before it may send: how many partitions, how large a record. Looked up once per
 * topic and again after a broker contradicted it.
 */
import { logError } from '../errors.ts'
import type { Admin } from './admin.ts'
import { backoffMs, pause } from './backoff.ts'
import type { Cluster } from './cluster.ts'

export type TopicLimit = { recordBytesMax: number; partitions: number }

/** A broker that lags behind may not know a new topic yet; this long, "unknown" is not believed. */
const UNKNOWN_MS_MAX = 3_000

export class TopicLimits {
  private readonly known = new Map<string, TopicLimit>()

  constructor(
    private readonly cluster: Cluster,
    private readonly admin: Admin,
  ) {}

  get(topic: string): TopicLimit | undefined {
    return this.known.get(topic)
  }

  forget(topic: string): void {
    this.known.delete(topic)
  }

  /** Rejects with HR_LOG_NO_TOPIC, or HR_LOG_UNAVAILABLE when no broker answers. */
  async load(topics: string[]): Promise<void> {
    const deadline = performance.now() + UNKNOWN_MS_MAX
    for (let failures = 0; ; failures++) {
      const missing = topics.filter((topic) => !this.known.has(topic))
      if (missing.length === 0) return
      for (const { name, recordBytesMax, partitions } of await this.admin.describe(missing))
        this.known.set(name, { recordBytesMax, partitions })
      const absent = missing.find((topic) => !this.known.has(topic))
      if (absent === undefined) return
      if (performance.now() > deadline)
        throw logError(
          'HR_LOG_NO_TOPIC',
          `topic ${absent} does not exist in Kafka; create it with headrace kafka apply`,
        )
      await pause(backoffMs(failures), this.cluster.signal)
      this.cluster.throwIfClosed()
    }
  }
}
