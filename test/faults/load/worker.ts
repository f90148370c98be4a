/**
 * One loader of a fault test: `startLoad` on a real log, a real Postgres and a real engine, and nothing else of the
 * product. Argument: its plan, as JSON. Prints UP_LINE when it is a member of its groups; ends with success on SIGTERM,
 * and with 1 and one line when load says that we are at fault.
 */
import { openPostgres } from '../../../src/catalog/index.ts'
import { isRetriable } from '../../../src/event/index.ts'
import { startLoad } from '../../../src/load/index.ts'
import { type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import { createLogger } from '../../../src/observe/index.ts'
import { openWarehouse } from '../../../src/warehouse/index.ts'
import { UP_LINE, type WorkerPlan } from './worker-plan.ts'

/** One per table that sends and one per table that settles. */
const CONNECTIONS_MAX = 14
const FLUSH_ROWS = 50_000
const AGAIN_MS = 50
/** The death of a neighbour is noticed at once, as a supervisor would see to it. */
const MEMBER_POLL_MS = 50

const plan = JSON.parse(process.argv[2]!) as WorkerPlan
const logger = createLogger('load', 'info')
const log = await openLog()
const sql = openPostgres({ url: plan.postgres, name: plan.name, connectionsMax: CONNECTIONS_MAX })
const warehouse = openWarehouse({ url: plan.warehouseUrl })
const load = await start()
console.log(UP_LINE)
process.on('SIGTERM', async () => {
  await load.stop()
  await log.close()
  await Promise.all([sql.end({ timeout: 1 }), warehouse.close()])
  process.exit(0)
})

function openLog(): Promise<Log> {
  if ('dir' in plan.log) return openEmbeddedLog({ dir: plan.log.dir, memberPollMs: MEMBER_POLL_MS })
  return openKafkaLog({ ...plan.log, clientId: plan.name })
}

async function start() {
  const settings = { loadFlushMs: plan.flushMs, loadFlushRows: FLUSH_ROWS }
  const { partitions } = plan
  for (;;) {
    try {
      return await startLoad({ settings, log, sql, warehouse, partitions, logger, fatal })
    } catch (error) {
      if (!isRetriable(error)) fatal(error)
      await Bun.sleep(AGAIN_MS)
    }
  }
}

function fatal(error: unknown): never {
  console.log(`fatal: ${(error as Error).stack ?? error}`)
  process.exit(1)
}
