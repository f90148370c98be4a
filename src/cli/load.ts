/** `headrace load`: the role that inserts rows into ClickHouse. */
import type { Command } from 'commander'
import { addRole, type RoleStart } from './role.ts'

export function addLoad(program: Command): void {
  addRole(program, {
    role: 'load',
    description: 'role: insert the rows of the log into ClickHouse, each once',
    connectionsMax: 14,
    start,
  })
}

const start: RoleStart = async ({ context, settings, logger, fatal }) => {
  const { startLoad } = await import('../load/index.ts')
  const { deployment } = await context.prepareState()
  const log = await context.checkedLog(deployment)
  const warehouse = await context.migratedWarehouse()
  const { partitions } = deployment
  return startLoad({ settings, log, sql: context.sql, warehouse, partitions, logger, fatal })
}
