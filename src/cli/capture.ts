/** `headrace capture`: the role that takes events from SDKs. */
import type { Command } from 'commander'
import type { Leftovers, Projects } from '../capture/index.ts'
import { ProjectCatalog } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { learnDeployment } from './known-deployment.ts'
import { addRole, type RoleStart } from './role.ts'

export function addCapture(program: Command): void {
  addRole(program, {
    role: 'capture',
    description: 'role: take events from SDKs and put them in the log',
    connectionsMax: 2,
    start,
  })
}

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
  const catalog = new ProjectCatalog(context.sql)
  const capture = await startCapture({
    settings,
    log,
    projects: projectsOf(catalog),
    partitions,
    logger,
    onFatal: fatal,
    ...(usesKafka ? { spool } : {}),
  }).catch(async (error: unknown) => {
    stopping.abort()
    await catalog.close()
    throw error
  })
  return {
    notReady: () => capture.notReady(),
    async stop(withinMs) {
      stopping.abort()
      const left = await capture.stop(withinMs)
      await catalog.close()
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

/** The catalogue as the door asks it: one that cannot be reached knows nothing, and keeps no event out. */
function projectsOf(catalog: ProjectCatalog): Projects {
  return {
    known: (token) => catalog.known(token),
    async find(token) {
      try {
        return (await catalog.lookup(new Set([token]))).get(token) ?? null
      } catch (error) {
        if (isRetriable(error)) return undefined
        throw error
      }
    },
  }
}
