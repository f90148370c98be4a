/** `headrace capture`: the role that takes events from SDKs. */
import type { Command } from 'commander'
import type { Leftovers } from '../capture/index.ts'
import { ProjectCatalog, ProjectUsage, RejectedRequests } from '../catalog/index.ts'
import { Replayer } from '../deadletters/index.ts'
import { pause } from '../platform/index.ts'
import { learnDeployment } from './known-deployment.ts'
import { addRole, type RoleStart } from './role.ts'

export function addCapture(program: Command): void {
  addRole(program, {
    role: 'capture',
    description: 'role: take events from SDKs and put them in the log',
    connectionsMax: 4,
    start,
  })
}

/** At the door a project that was just made should be let in soon; a token that stays wrong costs a row of one query. */
const UNKNOWN_MS = 2_000

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startCapture } = await import('../capture/index.ts')
  const stopping = new AbortController()
  const deployment = await learnDeployment({
    dataDir: settings.dataDir,
    logKind: context.logKind,
    partitions: settings.partitions,
    ask: async () => (await context.prepareState()).deployment,
    logger,
    fatal,
    signal: stopping.signal,
  })
  const { partitions } = deployment
  const usesKafka = context.logKind === 'kafka'
  // Kafka may be away: then events go to the spool, and its topics are checked before anything is sent there.
  const log = await (usesKafka ? context.log() : context.checkedLog(deployment))
  const spool = { sql: context.sql, checkLog: () => context.checkKafka(log, partitions) }
  const catalog = new ProjectCatalog(context.sql, { unknownMs: UNKNOWN_MS })
  const usage = new ProjectUsage(context.sql)
  const rejectedRequests = new RejectedRequests(context.sql)
  const closeCatalog = () => Promise.all([catalog.close(), usage.close(), rejectedRequests.close()])
  const capture = await startCapture({
    settings,
    log,
    projects: catalog,
    account: { usage, rejectedRequests },
    partitions,
    logger,
    onFatal: fatal,
    ...(usesKafka ? { spool } : {}),
  }).catch(async (error: unknown) => {
    stopping.abort()
    await closeCatalog()
    throw error
  })
  // Dead letters come back through here: nobody else writes the raw topics.
  const replayer = new Replayer({ sql: context.sql, log, warehouse: () => context.warehouse(), logger })
  return {
    notReady: () => capture.notReady(),
    async stop(withinMs) {
      stopping.abort()
      // A chunk that waits for a server is found again by whoever goes on: live requests do not wait for it.
      const [left] = await Promise.all([
        capture.stop(withinMs),
        Promise.race([replayer.stop(), pause(withinMs)]),
      ])
      await closeCatalog()
      return sentenceOf(left)
    },
  }
}

/** Undefined when nothing is left. */
function sentenceOf({ unanswered, spooled }: Leftovers): string | undefined {
  const parts: string[] = []
  if (unanswered > 0) parts.push(`${unanswered} requests without an answer`)
  if (spooled > 0)
    parts.push(`${spooled} events in the spool, which the next start on this data folder sends to Kafka`)
  return parts.length > 0 ? `stopped with ${parts.join(' and ')}` : undefined
}
