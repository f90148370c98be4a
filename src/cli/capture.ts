/** `headrace capture`: the role that takes events from SDKs. */
import type { Command } from 'commander'
import type { Projects } from '../capture/index.ts'
import { ProjectCatalog } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
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
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const catalog = new ProjectCatalog(context.sql)
  const capture = await startCapture({
    settings,
    log,
    projects: projectsOf(catalog),
    partitions: deployment.partitions,
    logger,
    onFatal: fatal,
  })
  return {
    notReady: () => capture.notReady(),
    async stop() {
      await capture.stop()
      await catalog.close()
    },
  }
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
