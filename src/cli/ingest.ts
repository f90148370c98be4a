/** `headrace ingest`: the role that makes enriched rows of raw events. */
import type { Command } from 'commander'
import { ProjectCatalog } from '../catalog/index.ts'
import { addRole, type RoleStart } from './role.ts'

export function addIngest(program: Command): void {
  addRole(program, {
    role: 'ingest',
    description: 'role: give every raw event its person and groups, once',
    connectionsMax: 8,
    start,
  })
}

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startIngest } = await import('../ingest/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  // An unknown token drops its event for good, so here nobody is unknown by memory: each batch asks anew.
  const projects = new ProjectCatalog(context.sql, { unknownMs: 0 })
  const { partitions } = deployment
  const deps = { settings, log, sql: context.sql, projects, partitions, logger, fatal }
  const ingest = await startIngest(deps).catch(async (error: unknown) => {
    await projects.close()
    throw error
  })
  return {
    notReady: () => ingest.notReady(),
    stop: async () => {
      await ingest.stop()
      await projects.close()
    },
  }
}
