/**
 * A real embedded warehouse for tests: its own process on a temporary folder and a free port, with the schema.
 * Every test that starts one must `stop` it.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  migrateWarehouse,
  openWarehouse,
  WAREHOUSE_PROCESS_ENV,
  type Warehouse,
} from '../../src/warehouse/index.ts'

const SCRIPT = join(import.meta.dir, '..', '..', 'src', 'warehouse', 'embedded', 'process.ts')
const READY_TIMEOUT_MS = 30_000

export type WarehouseProcess = {
  readonly url: string
  readonly pid: number
  /** Sends the signal and waits for the end; gives the exit code. */
  kill(signal: 'SIGTERM' | 'SIGKILL'): Promise<number>
}

/** Starts the engine on `dir`; throws its sentence when it refuses. */
export async function startWarehouseProcess(dir: string, address = '127.0.0.1:0'): Promise<WarehouseProcess> {
  const child = Bun.spawn([process.execPath, SCRIPT, dir, address], {
    env: { ...process.env, ...WAREHOUSE_PROCESS_ENV },
    stdout: 'pipe',
    stderr: 'inherit',
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), READY_TIMEOUT_MS)
  let line = ''
  for await (const chunk of child.stdout as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>) {
    line += new TextDecoder().decode(chunk)
    if (line.includes('\n')) break
  }
  clearTimeout(timer)
  if (!line.startsWith('ready ')) {
    child.kill('SIGKILL')
    await child.exited
    throw new Error(line.trim() || 'the warehouse process ended without a word')
  }
  return {
    url: line.slice('ready '.length).trim(),
    pid: child.pid,
    async kill(signal) {
      child.kill(signal)
      return await child.exited
    },
  }
}

export type TestWarehouse = {
  readonly dir: string
  readonly url: string
  readonly pid: number
  readonly warehouse: Warehouse
  stop(): Promise<void>
}

/** A warehouse with the schema, ready to insert into. */
export async function startTestWarehouse(): Promise<TestWarehouse> {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-warehouse-'))
  const child = await startWarehouseProcess(dir)
  const warehouse = openWarehouse({ url: child.url })
  await migrateWarehouse(warehouse)
  return {
    dir,
    url: child.url,
    pid: child.pid,
    warehouse,
    async stop() {
      await warehouse.close()
      await child.kill('SIGTERM')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
