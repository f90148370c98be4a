/**
 * The dedup index of one partition alone: batches are judged and stored until it holds so many claims; of the last part
 * are the figures. Two kinds of ids, each in a process of its own: near in time (v7, as browsers send) and random (v4, as
 * Python and Segment clients send). 2 % of the events are copies of earlier ones. Prints events/s, CPU µs per event with
 * all threads, the longest batch, bytes on disk per claim, and memory. With more partitions than one, they take turns and
 * share one bound of memory: the claims are of all together, and the memory is that of a process that owns so many.
 *
 *   bun bench/dedup.ts [claims = 1000000] [batch = 2000] [ids = time,random] [partitions = 1]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { uuidV7 } from '../src/event/index.ts'
import { type ClaimRequest, Claims, type IndexSize } from '../src/ingest/dedup/claims.ts'
import { DedupMemory } from '../src/ingest/dedup/dedup-memory.ts'
import { bottleneckOf, ownCpuUs, peakMemoryMb, quantile, report } from './measure.ts'

const CLAIMS = Number(process.argv[2] ?? 1_000_000)
const BATCH = Number(process.argv[3] ?? 2_000)
const KINDS = (process.argv[4] ?? 'time,random').split(',')
const PARTITIONS = Number(process.argv[5] ?? 1)
const LOG = '11111111-1111-4111-8111-111111111111'
const WINDOW_MS = 168 * 3_600_000
const COPIES = 0.02
/** Of the claims, measured when the others are in. */
const MEASURED = 0.2
const REMEMBERED = 20_000

if (KINDS.length > 1) {
  for (const kind of KINDS) {
    const args = [import.meta.path, String(CLAIMS), String(BATCH), kind, String(PARTITIONS)]
    const { exitCode } = Bun.spawnSync([process.execPath, ...args], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    if (exitCode !== 0) process.exit(1)
  }
} else await measure(KINDS[0]!)

async function measure(kind: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-bench-dedup-'))
  const memoryBefore = process.memoryUsage.rss()
  const memory = new DedupMemory()
  const indexes = Array.from({ length: PARTITIONS }, (_, n) =>
    Claims.open(join(dir, `${n}.sqlite`), WINDOW_MS, { memory }),
  )
  const remembered: ClaimRequest[] = []
  const totals = { events: 0, cpuUs: 0, seconds: 0, duplicates: 0, copies: 0 }
  const batchMs: number[] = []
  // So that the claims of 10 million events span a day.
  let appendedMs = Date.now()
  try {
    for (let offset = 0; offset < CLAIMS; offset += BATCH) {
      appendedMs += BATCH * 8
      const index = indexes[(offset / BATCH) % PARTITIONS]!
      const requests = requestsAt(offset)
      index.reached(appendedMs)
      const cpu = ownCpuUs()
      const started = performance.now()
      const verdicts = index.judge(requests)
      const accepted = requests.filter((_, i) => verdicts[i]!.kind === 'first')
      index.store(accepted, LOG, offset + BATCH)
      const ms = performance.now() - started
      if (offset >= CLAIMS * (1 - MEASURED)) {
        totals.events += BATCH
        totals.cpuUs += ownCpuUs() - cpu
        totals.seconds += ms / 1000
        totals.duplicates += BATCH - accepted.length
        batchMs.push(ms)
      } else totals.copies = 0
      // Files are made durable beside the work: as in the product, where each batch waits for Postgres.
      await turn()
    }
    // Those of another partition are no copies.
    if (PARTITIONS === 1 && totals.duplicates !== totals.copies)
      throw new Error(`${totals.copies} copies were sent, ${totals.duplicates} recognised`)
    const sizes = indexes.map((index) => index.size())
    const sum = (part: keyof IndexSize) => sizes.reduce((total, size) => total + size[part], 0)
    const [claims, bytes] = [sum('claims'), sum('bytes')]
    const cpuUs = { index: totals.cpuUs }
    report({
      name: kind === 'time' ? 'dedup, ids near in time' : 'dedup, random ids',
      eventsPerSecond: totals.events / totals.seconds,
      cpuUs: { index: totals.cpuUs / totals.events },
      p50Ms: quantile(batchMs, 0.5),
      p99Ms: quantile(batchMs, 0.99),
      bottleneck: bottleneckOf(cpuUs, totals.seconds, "the disk's sync"),
    })
    console.log(
      `${claims.toLocaleString('en')} claims, ${(bytes / claims).toFixed(1)} bytes each on disk; longest batch ` +
        `${Math.max(...batchMs).toFixed(0)} ms; memory ${toMb(memoryBefore)} MB before, ` +
        `${toMb(process.memoryUsage.rss())} MB now, ${toMb(sum('memoryBytes'))} MB of it claims and filters, ${peakMemoryMb(process.pid).toFixed(0)} MB at most`,
    )
  } finally {
    for (const index of indexes) index.close()
    rmSync(dir, { recursive: true, force: true })
  }

  function requestsAt(from: number): ClaimRequest[] {
    return Array.from({ length: BATCH }, (_, i) => {
      const earlier = remembered.length > BATCH && Math.random() < COPIES
      const place = Math.floor(Math.random() * REMEMBERED)
      const copy = earlier ? remembered[place % remembered.length] : undefined
      if (copy) totals.copies++
      const request: ClaimRequest = copy
        ? { ...copy, offset: from + i, appendedMs }
        : {
            teamId: 1,
            uuid: kind === 'time' ? uuidV7(appendedMs) : crypto.randomUUID(),
            event: '$pageview',
            distinctId: `person-${Math.floor(Math.random() * 1e6)}`,
            logId: LOG,
            offset: from + i,
            appendedMs,
            replayOf: undefined,
          }
      // Older and older ones: copies are found in every tier.
      if (!copy && Math.random() < 0.02) {
        if (remembered.length < REMEMBERED) remembered.push(request)
        else if (Math.random() < 0.1) remembered[place] = request
      }
      return request
    })
  }
}

function toMb(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
