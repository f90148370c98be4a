/**
 * The ClickHouse of a fault test: the embedded engine in a process of its own, on an address that stays. Killed with
 * SIGKILL and started again on its folder, as often as the test wants; kills that meet while one is under way are one.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrateWarehouse, openWarehouse, type Warehouse } from '../../../src/warehouse/index.ts'
import { freePorts } from '../../support/product.ts'
import { startWarehouseProcess, type WarehouseProcess } from '../../support/warehouse.ts'

export class Engine {
  kills = 0
  private restarting: Promise<void> | undefined

  private constructor(
    private readonly dir: string,
    private readonly address: string,
    private child: WarehouseProcess,
    readonly warehouse: Warehouse,
  ) {}

  static async start(): Promise<Engine> {
    const dir = mkdtempSync(join(tmpdir(), 'headrace-faults-warehouse-'))
    const address = `127.0.0.1:${freePorts(1)[0]}`
    const child = await startWarehouseProcess(dir, address)
    const warehouse = openWarehouse({ url: child.url })
    await migrateWarehouse(warehouse)
    const engine = new Engine(dir, address, child, warehouse)
    process.once('exit', engine.left)
    return engine
  }

  get url(): string {
    return this.child.url
  }

  /** Resolves when it is up again. */
  restart(): Promise<void> {
    this.restarting ??= this.killAndStart().finally(() => {
      this.restarting = undefined
    })
    return this.restarting
  }

  private async killAndStart(): Promise<void> {
    this.kills++
    await this.child.kill('SIGKILL')
    this.child = await startWarehouseProcess(this.dir, this.address)
  }

  /** Whoever ends us must not leave it behind. */
  private readonly left = () => void this.child.kill('SIGKILL')

  async remove(): Promise<void> {
    await this.restarting
    process.off('exit', this.left)
    await this.warehouse.close()
    await this.child.kill('SIGKILL')
    rmSync(this.dir, { recursive: true, force: true })
  }
}
