/**
 * How long the product takes to be ready (its second start: everything installed, nothing to create), and what it
 * costs while nothing happens: memory as the kernel shares it out (PSS) and CPU, per role, over half a minute. One
 * event goes through first, so that every part has worked.
 * `bun bench/idle.ts`; exit code 1 when something is over its limit. Linux only.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startProduct } from '../test/support/product.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { table, type Usage, usageOf } from './measure.ts'

const MEMORY_MB_MAX = 700
const CPU_PERCENT_MAX = 3
const READY_MS_MAX = 8_000
const OVER_MS = 30_000
/** After the start caches fill and connections close; the figure is that of a product at rest. */
const SETTLE_MS = 15_000

function measure(pids: Record<string, number>): Map<string, Usage> {
  const others = new Set(Object.values(pids))
  return new Map(Object.entries(pids).map(([role, pid]) => [role, usageOf(pid, others)]))
}

const dataDir = mkdtempSync(join(tmpdir(), 'headrace-idle-'))
await (await startProduct({ dataDir })).stop()
const startedMs = performance.now()
const product = await startProduct({ dataDir })
const readyMs = Math.round(performance.now() - startedMs)
try {
  await fetch(`${product.captureUrl}/i/v0/e/`, {
    method: 'POST',
    body: JSON.stringify({ api_key: product.token, event: 'idle', distinct_id: 'bench' }),
  })
  await waitFor('row', async () => (await product.sql('SELECT 1 AS one FROM events')).length === 1, 10_000)
  await delay(SETTLE_MS)
  const pids = await product.pids()
  const before = measure(pids)
  await delay(OVER_MS)
  const after = measure(pids)
  let memoryMb = 0
  let cpuPercent = 0
  const rows: string[][] = []
  for (const [role, { memoryMb: mb, cpuUs, processes }] of after) {
    const percent = ((cpuUs - before.get(role)!.cpuUs) / 1e3 / OVER_MS) * 100
    memoryMb += mb
    cpuPercent += percent
    rows.push([role, String(processes), mb.toFixed(0), percent.toFixed(2)])
  }
  rows.push(['all', '', memoryMb.toFixed(0), cpuPercent.toFixed(2)])
  rows.push(['limits', '', String(MEMORY_MB_MAX), String(CPU_PERCENT_MAX)])
  console.log(table(['role', 'processes', 'PSS MB', 'CPU % of a core'], rows))
  console.log(`ready after ${readyMs} ms, limit ${READY_MS_MAX} ms`)
  if (memoryMb > MEMORY_MB_MAX || cpuPercent > CPU_PERCENT_MAX || readyMs > READY_MS_MAX) process.exitCode = 1
} finally {
  await product.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
