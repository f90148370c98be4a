/**
 * The short form of every benchmark that needs nothing but this machine, one after the other, and one table of all.
 * Compares with the figures of bench/accepted.json by ratio; exit code 1 when one is worse or did not run.
 *
 *   npm run bench [-- capture load …]     only those whose name has one of the words
 *   npm run bench -- --accept             what was measured becomes what is accepted, here and in bench/README.md
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { type Accepted, accept, compare, measureYardstick } from './compare.ts'
import { FIGURE_HEAD, type Figures, figureCells, table } from './measure.ts'

const SHORT: readonly { name: string; args: readonly string[] }[] = [
  { name: 'log-embedded', args: ['3'] },
  { name: 'capture', args: ['--seconds', '3'] },
  { name: 'identity', args: ['--seconds', '5', '--persons', '50000'] },
  { name: 'ingest', args: ['--events', '80000', '--persons', '20000'] },
  { name: 'load', args: ['--rows', '160000'] },
  { name: 'warehouse-insert', args: ['4'] },
  { name: 'sustained', args: ['5000', '20'] },
]
const ACCEPTED = join(import.meta.dir, 'accepted.json')
const README = join(import.meta.dir, 'README.md')
const TABLE = /(<!-- accepted figures -->\n)[\s\S]*?(<!-- end of accepted figures -->)/
const BENCH_MS_MAX = 5 * 60_000
/** Above this many runnable processes per core others take so much that figures should not be accepted. */
const QUIET_LOAD_MAX = 0.5

const words = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const accepting = process.argv.includes('--accept')
const chosen = SHORT.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))
if (chosen.length === 0) {
  console.error(
    `no benchmark is called ${words.join(' or ')}; there are ${SHORT.map(({ name }) => name).join(', ')}`,
  )
  process.exit(2)
}
const busy = loadavg()[0]! / availableParallelism()
if (busy > QUIET_LOAD_MAX) {
  console.log(`the machine is busy (load ${loadavg()[0]!.toFixed(1)}): compare rows with each other only`)
  if (accepting) process.exit(2)
}

const dir = mkdtempSync(join(tmpdir(), 'headrace-bench-run-'))
const failed: string[] = []
const figures: Figures[] = []
const yardstickUs = measureYardstick()
try {
  for (const { name, args } of chosen) {
    console.log(`\n── ${name} ${args.join(' ')}`)
    const path = join(dir, name)
    writeFileSync(path, '')
    const child = Bun.spawn([process.execPath, join(import.meta.dir, `${name}.ts`), ...args], {
      env: { ...process.env, BENCH_REPORT: path },
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    // A benchmark that hangs must not keep the others waiting.
    const stuck = setTimeout(() => child.kill('SIGKILL'), BENCH_MS_MAX)
    const code = await child.exited
    clearTimeout(stuck)
    const told = readFileSync(path, 'utf8').split('\n').filter(Boolean)
    if (code !== 0 || told.length === 0) failed.push(name)
    else figures.push(...told.map((line) => JSON.parse(line) as Figures))
  }
} finally {
  rmSync(dir, { recursive: true, force: true })
}

const accepted = JSON.parse(readFileSync(ACCEPTED, 'utf8')) as Accepted
const verdicts = compare(accepted, { yardstickUs, figures })
const ratio = (value: number | undefined) => (value === undefined ? 'new' : `× ${value.toFixed(2)}`)
console.log(`\n${machine()}, yardstick ${yardstickUs.toFixed(2)} µs`)
console.log(
  table(
    [...FIGURE_HEAD, 'rate', 'CPU', ''],
    figures.map((one, i) => {
      const { rateRatio, cpuRatio, worse } = verdicts[i]!
      return [...figureCells(one), ratio(rateRatio), ratio(cpuRatio), worse ? 'worse' : '']
    }),
  ),
)
if (accepted.takenAt === null)
  console.log('nothing was accepted yet: npm run bench -- --accept, on a quiet machine')
for (const name of failed) console.log(`${name} did not run to its end`)

if (accepting && failed.length === 0) {
  const takenAt = new Date().toISOString().slice(0, 10)
  const next = accept(accepted, { takenAt, machine: machine(), yardstickUs, figures })
  writeFileSync(ACCEPTED, `${JSON.stringify(next, null, 2)}\n`)
  const text = readFileSync(README, 'utf8').replace(
    TABLE,
    (_, begin, end) => `${begin}${acceptedTable(next)}${end}`,
  )
  writeFileSync(README, text)
  console.log('accepted; commit bench/accepted.json and bench/README.md')
} else if (failed.length > 0 || verdicts.some(({ worse }) => worse)) process.exitCode = 1

function machine(): string {
  const [cpu] = cpus()
  return `${availableParallelism()} cores (${cpu?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Bun ${Bun.version}`
}

function acceptedTable(of: Accepted): string {
  const row = (cells: string[]) => `| ${cells.join(' | ')} |`
  const rows = [FIGURE_HEAD, FIGURE_HEAD.map(() => '---'), ...of.figures.map(figureCells)]
  return `\nTaken ${of.takenAt} on ${of.machine}, yardstick ${of.yardstickUs.toFixed(2)} µs.\n\n${rows.map(row).join('\n')}\n\n`
}
