/** `headrace capture`: the role that takes events from SDKs. */
import type { Command } from 'commander'
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
  return startCapture({ settings, log, partitions: deployment.partitions, logger, onFatal: fatal })
}
