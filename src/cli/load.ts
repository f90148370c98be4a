/**
 * `headrace load`: the role that inserts rows into ClickHouse. Beside it runs the audit that never stops: what was
 * loaded is compared with what was decided, once a minute, for the metric `headrace_unaccounted_events`.
 */
import type { Command } from 'commander'
import { isRetriable } from '../event/index.ts'
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
  const { UnaccountedWatch } = await import('../ledger/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const warehouse = await context.migratedWarehouse()
  const { partitions } = deployment
  const load = await startLoad({ settings, log, sql: context.sql, warehouse, partitions, logger, fatal })
  const watch = repeatAudit(new UnaccountedWatch({ sql: context.sql, log, warehouse }, logger), logger)
  return {
    notReady: () => load.notReady(),
    stop: async () => {
      watch.stop()
      await load.stop()
    },
  }
}

/** One at a time. An audit that fails must not end the load: it is only said. */
function repeatAudit(watch: { check(): Promise<number> }, logger: Logger): { stop(): void } {
  let timer = setTimeout(check, AUDIT_EVERY_MS)
  let stopped = false
  async function check(): Promise<void> {
    try {
      await watch.check()
    } catch (error) {
      if (!stopped)
        logger[isRetriable(error) ? 'debug' : 'warn'](
          { err: error },
          `the audit failed: ${sentence(error, 'info')}`,
        )
    }
    if (!stopped) timer = setTimeout(check, AUDIT_EVERY_MS)
  }
  return {
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
