/** `headrace deliver`: the role that sends events to destinations. */
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Settings } from '../catalog/index.ts'
import { addRole, type RoleStart } from './role.ts'

export function addDeliver(program: Command): void {
  addRole(program, {
    role: 'deliver',
    description: 'role: send events to destinations, each under one id',
    connectionsMax: 8,
    start,
  })
}

/** Where the key of the secrets is when no setting has it. */
export function secretFile(settings: Settings): string {
  return join(settings.dataDir, 'secret.key')
}

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startDeliver } = await import('../deliver/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const deliver = await startDeliver({
    settings,
    secretFile: secretFile(settings),
    log,
    sql: context.sql,
    warehouse: await context.warehouse(),
    partitions: deployment.partitions,
    logger,
    fatal,
  })
  return { notReady: () => deliver.notReady(), stop: () => deliver.stop() }
}
