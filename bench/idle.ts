/**
 * How long the product takes to be ready (its second start: everything installed, nothing to create), and what it
 * costs while nothing happens: memory as the kernel shares it out (PSS) and CPU, per role, over half a minute. One
 * event goes through first, so that every part has worked.
 * `bun bench/idle.ts`; exit code 1 when something is over its limit. Linux only.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startProduct } from '../test/support/product.ts'
import { waitFor } from '../test/support/wait-for.ts'

const MEMORY_MB_MAX = 700
const CPU_PERCENT_MAX = 3
const READY_MS_MAX = 8_000
const OVER_MS = 30_000
/** After the start caches fill and connections close; the figure is that of a product at rest. */
const SETTLE_MS = 15_000
const TICKS_PER_SECOND = Number(Bun.spawnSync(['getconf', 'CLK_TCK']).stdout.toString()) || 100

type Usage = { memoryMb: number; cpuMs: number; processes: number }

/** Children by parent, of every process there is. */
function processTree(): Map<number, number[]> {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? read(`/proc/${name}/stat`) : undefined
    if (!stat) continue
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
    children.set(parent, [...(children.get(parent) ?? []), Number(name)])
  }
  return children
}

/** Of a process and those below it, except those that have a role of their own. */
function usage(pid: number, others: ReadonlySet<number>, tree: ReturnType<typeof processTree>): Usage {
  const sum: Usage = { memoryMb: 0, cpuMs: 0, processes: 1 }
  const memory = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`) ?? '')
  sum.memoryMb = Number(memory?.[1] ?? 0) / 1024
  const stat = read(`/proc/${pid}/stat`) ?? ''
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  sum.cpuMs = ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1_000
  for (const child of tree.get(pid) ?? []) {
    if (others.has(child)) continue
    const below = usage(child, others, tree)
    sum.memoryMb += below.memoryMb
    sum.cpuMs += below.cpuMs
    sum.processes += below.processes
  }
  return sum
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function measure(pids: Record<string, number>): Map<string, Usage> {
  const tree = processTree()
  const others = new Set(Object.values(pids))
  return new Map(Object.entries(pids).map(([role, pid]) => [role, usage(pid, others, tree)]))
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
  console.log('role        processes  PSS MB  CPU % of a core')
  for (const [role, { memoryMb: mb, cpuMs, processes }] of after) {
    const percent = ((cpuMs - before.get(role)!.cpuMs) / OVER_MS) * 100
    memoryMb += mb
    cpuPercent += percent
    console.log(
      `${role.padEnd(12)}${String(processes).padEnd(11)}${mb.toFixed(0).padEnd(8)}${percent.toFixed(2)}`,
    )
  }
  console.log(`${'all'.padEnd(23)}${memoryMb.toFixed(0).padEnd(8)}${cpuPercent.toFixed(2)}`)
  console.log(`limits                 ${String(MEMORY_MB_MAX).padEnd(8)}${CPU_PERCENT_MAX}`)
  console.log(`ready after ${readyMs} ms, limit ${READY_MS_MAX} ms`)
  if (memoryMb > MEMORY_MB_MAX || cpuPercent > CPU_PERCENT_MAX || readyMs > READY_MS_MAX) process.exitCode = 1
} finally {
  await product.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
