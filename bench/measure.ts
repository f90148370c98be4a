/**
 * What every benchmark needs: the CPU and memory of processes (Linux, from /proc), quantiles, what was the bottleneck,
 * and a table. A benchmark tells its figures with `report`, which prints them, and appends them as lines of JSON to the
 * file that `BENCH_REPORT` names, where bench/run.ts reads them.
 */
import { appendFileSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

export type Figures = {
  /** The same in every run: figures are compared by it. */
  name: string
  eventsPerSecond: number
  /** CPU microseconds per event, by process or role. */
  cpuUs: Record<string, number>
  p50Ms?: number
  p99Ms?: number
  bottleneck: string
}

export function report(...all: Figures[]): void {
  console.log(table(FIGURE_HEAD, all.map(figureCells)))
  const path = process.env.BENCH_REPORT
  if (path) appendFileSync(path, all.map((figures) => `${JSON.stringify(figures)}\n`).join(''))
}

export const FIGURE_HEAD = ['', 'events/s', 'CPU µs per event', 'p50 ms', 'p99 ms', 'bottleneck']

export function figureCells({ name, eventsPerSecond, cpuUs, p50Ms, p99Ms, bottleneck }: Figures): string[] {
  const parts = Object.entries(cpuUs)
  const each = parts.map(([part, us]) => `${part} ${us.toFixed(1)}`).join(' + ')
  const cpu = parts.length > 1 ? `${cpuTotal(cpuUs).toFixed(1)} = ${each}` : each
  const ms = (value: number | undefined) => (value === undefined ? '' : value.toFixed(1))
  return [name, Math.round(eventsPerSecond).toLocaleString('en'), cpu, ms(p50Ms), ms(p99Ms), bottleneck]
}

export function cpuTotal(cpuUs: Record<string, number>): number {
  return Object.values(cpuUs).reduce((sum, us) => sum + us, 0)
}

/** Aligned columns: the first to the left, numbers to the right. */
export function table(head: string[], rows: string[][]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)))
  const isNumber = head.map((_, i) => i > 0 && rows.every((row) => /^[-\d.,× %]*$/.test(row[i]!)))
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** 0 when there are no values. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
}

/** From this share of what there is on, CPU is what held the work up. */
const BUSY = 0.8

/**
 * What held the work up: all cores, the one core of a single-threaded part, or neither, and then `otherwise`, which
 * names what the work waited for. `cpuUs` is the total of each part, `threads` those parts that use several cores.
 */
export function bottleneckOf(
  cpuUs: Record<string, number>,
  seconds: number,
  otherwise: string,
  threads: readonly string[] = [],
): string {
  const cores = availableParallelism()
  const [most] = Object.entries(cpuUs).sort(([, a], [, b]) => b - a)
  if (cpuTotal(cpuUs) / 1e6 / seconds >= BUSY * cores) return `all ${cores} cores, most of it ${most![0]}`
  const single = Object.entries(cpuUs).find(
    ([part, us]) => !threads.includes(part) && us / 1e6 / seconds >= BUSY,
  )
  return single ? `the core of ${single[0]}` : otherwise
}

/** Of this process, all threads. */
export function ownCpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

export type Usage = { cpuUs: number; memoryMb: number; processes: number }

/**
 * Of a process and all below it, but without those in `others` and what is below them. CPU counts children that
 * ended; memory is as the kernel shares it out (PSS). What has gone meanwhile counts nothing.
 */
export function usageOf(pid: number, others: ReadonlySet<number> = new Set()): Usage {
  return usageBelow(pid, others, processTree())
}

export function cpuUsOf(pid: number, others?: ReadonlySet<number>): number {
  return usageOf(pid, others).cpuUs
}

function usageBelow(pid: number, others: ReadonlySet<number>, tree: Map<number, number[]>): Usage {
  const sum: Usage = { cpuUs: 0, memoryMb: 0, processes: 1 }
  const fields = statOf(pid)
  // utime, stime, and the same of children that ended.
  const ticks = [11, 12, 13, 14].reduce((total, i) => total + Number(fields?.[i] ?? 0), 0)
  sum.cpuUs = (ticks / ticksPerSecond()) * 1e6
  const pss = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`) ?? '')
  sum.memoryMb = Number(pss?.[1] ?? 0) / 1024
  for (const child of tree.get(pid) ?? []) {
    if (others.has(child)) continue
    const below = usageBelow(child, others, tree)
    sum.cpuUs += below.cpuUs
    sum.memoryMb += below.memoryMb
    sum.processes += below.processes
  }
  return sum
}

/** Most memory that a process has had resident, MB. */
export function peakMemoryMb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0) / 1024
}

/** Children by parent, of every process there is. */
function processTree(): Map<number, number[]> {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const fields = /^\d+$/.test(name) ? statOf(Number(name)) : undefined
    if (!fields) continue
    const parent = Number(fields[1])
    const siblings = children.get(parent)
    if (siblings) siblings.push(Number(name))
    else children.set(parent, [Number(name)])
  }
  return children
}

/** Fields of /proc/<pid>/stat from the state on: the name before it may hold anything. */
function statOf(pid: number): string[] | undefined {
  const text = read(`/proc/${pid}/stat`)
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

let ticks: number | undefined
function ticksPerSecond(): number {
  ticks ??= Number(Bun.spawnSync(['getconf', 'CLK_TCK']).stdout.toString()) || 100
  return ticks
}
