/**
 * `headrace load`: the role that inserts rows into ClickHouse. Beside it runs the audit that never stops: what was
 * loaded is compared with what was decided, once a minute and by one process of all, for the metric
 * `headrace_unaccounted_events`; and the names of events and properties are read from what was loaded.
 */
import type { Command } from 'commander'
import type { Settings } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import type { AuditDeps, Lease as LedgerLease } from '../ledger/index.ts'
import type { Logger } from '../observe/index.ts'
import { sentence } from './exit.ts'
import { addRole, type RoleStart } from './role.ts'

const AUDIT_EVERY_MS = 60_000
const DEFINITIONS_EVERY_MS = 15_000

export function addLoad(program: Command): void {
  addRole(program, {
    role: 'load',
    description: 'role: insert the rows of the log into ClickHouse, each once',
    // One per table that sends and one per table that settles, the audit, and the definitions.
    connectionsMax: 16,
    start,
  })
}

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startLoad } = await import('../load/index.ts')
  const { Lease } = await import('../ledger/index.ts')
  const { DefinitionReader } = await import('../definitions/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const warehouse = await context.migratedWarehouse()
  const { partitions } = deployment
  const load = await startLoad({ settings, log, sql: context.sql, warehouse, partitions, logger, fatal })
  const lease = new Lease(context.sql)
  const chores = await choresOf({ sql: context.sql, log, warehouse }, lease, settings, logger)
  const limits = { eventsMax: settings.definitionEventsMax, propertiesMax: settings.definitionPropertiesMax }
  const definitions = new DefinitionReader({ sql: context.sql, warehouse, limits })
  const background = [
    repeat('the audit', AUDIT_EVERY_MS, logger, chores),
    repeat('reading definitions', DEFINITIONS_EVERY_MS, logger, () => definitions.step()),
  ]
  return {
    notReady: () => load.notReady(),
    stop: async () => {
      for (const one of background) one.stop()
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
): Promise<() => Promise<boolean>> {
  const { Canary, mergeReceipts, rollUp, showAudit, UnaccountedWatch } = await import('../ledger/index.ts')
  const watch = new UnaccountedWatch(deps, logger)
  const { canary: wanted, captureAddress } = settings
  const captureUrl = wanted === 'on' ? `http://${captureAddress}` : wanted
  const canary = wanted === 'off' ? undefined : new Canary({ ...deps, captureUrl, logger })
  return async () => {
    if (await lease.take()) {
      await Promise.all([watch.check(), canary?.fly()])
      try {
        await rollUp(deps.sql, settings.receiptDetailHours)
      } finally {
        await mergeReceipts(deps.sql, Math.max(settings.receiptDetailHours, settings.logRetentionHours))
      }
    }
    await showAudit(deps)
    return false
  }
}

/** One at a time; at once when there is more. What fails here must not end the load: it is only said. */
function repeat(
  what: string,
  everyMs: number,
  logger: Logger,
  work: () => Promise<boolean>,
): { stop(): void } {
  let timer = setTimeout(run, everyMs)
  let stopped = false
  async function run(): Promise<void> {
    let more = false
    try {
      more = await work()
    } catch (error) {
      if (!stopped)
        logger[isRetriable(error) ? 'debug' : 'warn'](
          { err: error },
          `${what} failed: ${sentence(error, 'info')}`,
        )
    }
    if (!stopped) timer = setTimeout(run, more ? 0 : everyMs)
  }
  return {
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
