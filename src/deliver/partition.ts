/**
 * A partition number that this process delivers: one round after the other, until it goes to another process.
 *
 * ```
 * taking over ──▶ round ──world at fault, or another process had moved something──▶ wait, take over again
 *                   └──gap: says so, waits longer──────────────────────────────────▶
 * ```
 */
import { type HeadraceError, isRetriable } from '../event/index.ts'
import { type Backoff, backoffMs, pause } from '../platform/index.ts'
import type { PartitionKey } from './cursors.ts'
import { deliverMetrics } from './metrics.ts'
import { Round } from './round.ts'
import type { RoundDeps } from './round-parts.ts'

const BACKOFF: Backoff = { firstMs: 100, maxMs: 3_000 }
/** A halted partition is looked at again after this, so that a repair needs no restart. */
const HALTED_MS = 10_000
/** Errors that stop a partition, not the process. */
const STOPPING = new Set(['HR_DELIVER_GAP', 'HR_DELIVER_UNREADABLE', 'HR_LOG_OUT_OF_RANGE', 'HR_LOG_CORRUPT'])

export class PartitionDelivery {
  /** The round under way, once it has the partition. */
  round: Round | undefined
  /** Why it stands still. */
  says: string | undefined = 'is starting'
  private readonly stopping = new AbortController()
  private readonly running: Promise<void>

  constructor(
    private readonly deps: RoundDeps & { fatal: (error: unknown) => void },
    private readonly key: PartitionKey,
  ) {
    this.running = this.run().catch((error) => deps.fatal(error))
  }

  /** Gives up what is under way: what was not committed is done again by the next owner. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping
    const { logger } = this.deps
    const { partition } = this.key
    for (let failures = 0; !signal.aborted; ) {
      const round = new Round(this.deps, this.key)
      try {
        await round.run(signal, () => {
          failures = 0
          this.round = round
          this.says = undefined
          deliverMetrics.gap.set({ partition }, 0)
        })
      } catch (error) {
        const { code, message } = error as HeadraceError
        this.says = message
        const stops = STOPPING.has(code)
        if (!stops && !isRetriable(error)) throw error
        failures++
        if (stops) {
          deliverMetrics.gap.set({ partition }, 1)
          logger.error(
            { partition, code, docs: 'docs/runbooks/deliver.md#gap' },
            `delivery of partition ${partition} stopped: ${message}`,
          )
        } else if (failures === 1 || failures % 20 === 0) {
          logger.warn({ partition, code }, `delivery of partition ${partition} waits: ${message}`)
        }
        await pause(stops ? HALTED_MS : backoffMs(failures, BACKOFF), signal)
      } finally {
        this.round = undefined
      }
    }
  }
}
