/**
 * The life of a process of a fault test: its log and its Postgres are opened, its role is started until it stands, and
 * all is closed on SIGTERM. Prints UP_LINE; on standard error HALT_LINE with each new sentence of the role; ends with 1
 * and one line when the role says that we are at fault.
 */
import { openPostgres, type Sql } from '../../../src/catalog/index.ts'
import { isRetriable } from '../../../src/event/index.ts'
import { type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import { HALT_LINE, type IngestPlan, type LoadPlan, UP_LINE } from './plan.ts'

const AGAIN_MS = 50
const LOOK_MS = 200
/** The death of a neighbour is noticed at once, as a supervisor would see to it. */
const MEMBER_POLL_MS = 50

type Role = { stop(): Promise<void>; notReady(): Promise<string | undefined> }
export type Opened = { log: Log; sql: Sql; fatal(error: unknown): never }

export async function live(
  plan: IngestPlan | LoadPlan,
  connectionsMax: number,
  start: (opened: Opened) => Promise<Role>,
  close: () => Promise<void> = async () => {},
): Promise<void> {
  const log = await openLog(plan)
  const sql = openPostgres({ url: plan.postgres, name: plan.name, connectionsMax })
  const role = await startAgain(() => start({ log, sql, fatal }))
  console.log(UP_LINE)
  console.error(HALT_LINE)
  let said: string | undefined
  setInterval(async () => {
    const sentence = await role.notReady().catch(String)
    if (sentence !== said) console.error(`${HALT_LINE}${sentence ?? ''}`)
    said = sentence
  }, LOOK_MS)
  process.on('SIGTERM', async () => {
    await role.stop()
    await close()
    await log.close()
    await sql.end({ timeout: 1 })
    process.exit(0)
  })
}

function openLog({ log, name }: IngestPlan | LoadPlan): Promise<Log> {
  if ('dir' in log) return openEmbeddedLog({ dir: log.dir, memberPollMs: MEMBER_POLL_MS })
  return openKafkaLog({ ...log, clientId: name })
}

async function startAgain(start: () => Promise<Role>): Promise<Role> {
  for (;;) {
    try {
      return await start()
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
