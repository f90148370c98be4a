/** `headrace warehouse`: the embedded ClickHouse engine in a process of its own, behind ClickHouse's HTTP interface. */
import type { Command } from 'commander'
import { parseAddress } from '../catalog/index.ts'
import { warehouseDir } from './context.ts'
import { addRole, type RoleStart } from './role.ts'

export function addWarehouse(program: Command): void {
  addRole(program, {
    role: 'warehouse',
    description: 'role: the embedded ClickHouse engine behind its HTTP interface',
    connectionsMax: 1,
    start,
  })
}

const start: RoleStart = async ({ settings }) => {
  const { startEmbeddedWarehouse } = await import('../warehouse/index.ts')
  return startEmbeddedWarehouse({
    dir: warehouseDir(settings),
    listen: parseAddress(settings.warehouseAddress),
  })
}
