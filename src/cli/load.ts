/**
 * `headrace load`: the role that inserts rows into ClickHouse. Beside it runs the audit that never stops: what was
 * loaded is compared with what was decided, once a minute and by one process of all, for the metric
 * `headrace_unaccounted_events`.
 */
import type { Command } from 'commander'
import type { Settings } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import type { AuditDeps, Lease as LedgerLease } from '../ledger/index.ts'
import type { Logger } from '../observe/index.ts'
import { sentence } from './exit.ts'
import { addRole, type RoleStart } from './role.ts'

const AUDIT_EVERY_MS = 60_000

export function addLoad(program: Command): void {
  addRole(program, {
    role: 'load',
    description: 'role: insert the rows of the log into ClickHouse, each once',
    // One per table that sends and one per table that settles, and the audit.
    connectionsMax: 15,
    start,
  })
}

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startLoad } = await import('../load/index.ts')
  const { Lease } = await import('../ledger/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const warehouse = await context.migratedWarehouse()
  const { partitions } = deployment
  const load = await startLoad({ settings, log, sql: context.sql, warehouse, partitions, logger, fatal })
  const lease = new Lease(context.sql)
  const chores = await choresOf({ sql: context.sql, log, warehouse }, lease, settings, logger)
  const repeating = repeat(chores, logger)
  return {
    notReady: () => load.notReady(),
    stop: async () => {
      repeating.stop()
      await lease.give().catch((error) => logger.debug({ err: error }, 'the lease of the ledger runs out'))
      await load.stop()
    },
  }
}

/** What the ledger has to do now and then: one process does it, all of them show what is known. */
async function choresOf(
  deps: AuditDeps,
  lease: LedgerLease,
  settings: Settings,
  logger: Logger,
): Promise<() => Promise<void>> {
  const { Canary, mergeReceipts, rollUp, showAudit, UnaccountedWatch } = await import('../ledger/index.ts')
  const watch = new UnaccountedWatch(deps, logger)
  const { canary: wanted, captureAddress } = settings
  const captureUrl = wanted === 'on' ? `http://${captureAddress}` : wanted
  const canary = wanted === 'off' ? undefined : new Canary({ ...deps, captureUrl, logger })
  return async () => {
    if (await lease.take()) {
      await Promise.all([watch.check(), canary?.fly()])
      await rollUp(deps.sql, settings.receiptDetailHours)
      await mergeReceipts(deps.sql, Math.max(settings.receiptDetailHours, settings.logRetentionHours))
    }
    await showAudit(deps)
  }
}

/** One at a time. Chores that fail must not end the load: it is only said. */
function repeat(chores: () => Promise<void>, logger: Logger): { stop(): void } {
  let timer = setTimeout(run, AUDIT_EVERY_MS)
  let stopped = false
  async function run(): Promise<void> {
    try {
      await chores()
    } catch (error) {
      if (!stopped)
        logger[isRetriable(error) ? 'debug' : 'warn'](
          { err: error },
          `the audit failed: ${sentence(error, 'info')}`,
        )
    }
    if (!stopped) timer = setTimeout(run, AUDIT_EVERY_MS)
  }
  return {
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
