/**
 * The destinations as this process knows them. In: what changed in Postgres, asked once a second. Out: one runtime per
 * destination, and a signal when something changed. A description that this version cannot read or open takes its
 * destination out of work with one sentence, and nothing else.
 */
import { isRetriable } from '../event/index.ts'
import type { Logger } from '../observe/index.ts'
import { pause, Signal } from '../platform/index.ts'
import type { Destination } from './destination.ts'
import { deliverMetrics } from './metrics.ts'
import { Runtime, type RuntimeDeps } from './runtime.ts'
import type { DestinationStore } from './store.ts'
import { Lock } from './turns.ts'

const POLL_MS = 1_000

export class Directory {
  private readonly runtimes = new Map<string, Runtime>()
  private seen = 0
  private readonly reading = new Lock()
  private readonly stopping = new AbortController()
  private polling: Promise<void> | undefined
  /** Notified after every change. */
  readonly changed = new Signal()
  /** Rises with every change. */
  version = 0

  constructor(
    private readonly store: DestinationStore,
    private readonly deps: RuntimeDeps,
    private readonly logger: Logger,
  ) {}

  async start(): Promise<void> {
    await this.refresh()
    this.polling = this.poll()
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.polling
    await Promise.allSettled([...this.runtimes.values()].map((runtime) => runtime.target.close?.()))
  }

  get(id: string): Runtime | undefined {
    return this.runtimes.get(id)
  }

  all(): Iterable<Runtime> {
    return this.runtimes.values()
  }

  /** The share of the rate that this process has is another. */
  reshare(): void {
    for (const runtime of this.runtimes.values()) runtime.limit()
  }

  /** Reads what changed. A change that we make ourselves is seen at once this way. One at a time, so that none is undone. */
  refresh(): Promise<void> {
    return this.reading.run(() => this.read())
  }

  private async read(): Promise<void> {
    const { destinations, highest } = await this.store.changes(this.seen)
    for (const destination of destinations) this.take(destination)
    this.seen = highest
    if (destinations.length === 0) return
    // A replay works by the description of its original.
    for (const runtime of [...this.runtimes.values()]) {
      const { replayOf } = runtime.destination
      const original = replayOf === undefined ? undefined : this.runtimes.get(replayOf)?.destination
      if (original && destinations.some(({ id }) => id === replayOf)) {
        const { kind, config, secrets } = original
        this.take({ ...runtime.destination, kind, config, secrets })
      }
    }
    this.version++
    this.changed.notify()
  }

  private take(destination: Destination): void {
    const before = this.runtimes.get(destination.id)
    if (destination.state === 'deleted') {
      this.runtimes.delete(destination.id)
      deliverMetrics.open.remove({ destination: destination.id })
      void before?.target.close?.()
      return
    }
    try {
      this.runtimes.set(destination.id, new Runtime(destination, this.deps, before))
      void before?.target.close?.()
    } catch (error) {
      this.runtimes.delete(destination.id)
      this.logger.error(
        {
          destination: destination.id,
          code: (error as { code?: string }).code,
          docs: 'docs/runbooks/deliver.md#description',
        },
        `destination ${destination.name} is not delivered to: ${(error as Error).message}`,
      )
    }
  }

  private async poll(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      await pause(POLL_MS, signal)
      if (signal.aborted) return
      try {
        await this.refresh()
      } catch (error) {
        const level = isRetriable(error) ? 'debug' : 'error'
        this.logger[level]({ err: error }, `destinations could not be read: ${(error as Error).message}`)
      }
    }
  }
}
