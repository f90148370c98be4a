/**
 * One ingest process of a fault test: `startIngest` on a real log and a real Postgres, and nothing else of the product,
 * so that a life costs a tenth of a second. Argument: its plan, as JSON. Prints UP_LINE when it is a member of the
 * group; ends with success on SIGTERM, and with 1 and one line when ingest says that we are at fault.
 */
import { openPostgres, ProjectCatalog, readSettings } from '../../../src/catalog/index.ts'
import { isRetriable } from '../../../src/event/index.ts'
import { startIngest } from '../../../src/ingest/index.ts'
import { type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import { createLogger } from '../../../src/observe/index.ts'
import { UP_LINE, type WorkerPlan } from './worker-plan.ts'

const CONNECTIONS_MAX = 8
const AGAIN_MS = 50
/** The death of a neighbour is noticed at once, as a supervisor would see to it. */
const MEMBER_POLL_MS = 50

const plan = JSON.parse(process.argv[2]!) as WorkerPlan
const logger = createLogger('ingest', 'info')
const settings = readSettings({ HEADRACE_DATA_DIR: plan.dataDir, ...plan.settings })
const log = await openLog()
const sql = openPostgres({ url: plan.postgres, name: plan.name, connectionsMax: CONNECTIONS_MAX })
const projects = new ProjectCatalog(sql, { unknownMs: 0 })
const ingest = await start()
console.log(UP_LINE)
process.on('SIGTERM', async () => {
  await ingest.stop()
  await projects.close()
  await log.close()
  await sql.end({ timeout: 1 })
  process.exit(0)
})

function openLog(): Promise<Log> {
  if ('dir' in plan.log) return openEmbeddedLog({ dir: plan.log.dir, memberPollMs: MEMBER_POLL_MS })
  return openKafkaLog({ ...plan.log, clientId: plan.name })
}

async function start() {
  const { partitions } = plan
  for (;;) {
    try {
      return await startIngest({ settings, log, sql, projects, partitions, logger, fatal })
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
