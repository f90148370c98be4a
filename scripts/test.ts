/**
 * Everything of `npm test`: the unit tests of each folder of src with coverage, two folders at a time, the longest first;
 * then, one after the other and alone since they measure time and take the machine's ports, memory and disk, every folder
 * of test/: the guide's questions, hostile input, and last the product from outside (test/e2e) and the short form of the
 * fault tests (test/faults).
 * `npm test -- <text>…` runs the test files whose path has one of the texts, without the coverage gate.
 *
 * Prints each suite's own output (of those side by side at its end), its time, every failed test again with what it said,
 * and as the last line `N passed, N failed` (`, N skipped` when there are).
 * Must hold: a suite that crashes, hangs past the budget or says nothing counts as failed. A unit test that failed beside
 * another suite is run once more alone: what passes then was short of machine, counts as passed, and is named as unsteady.
 * Fault tests and the product from outside have no second run: they fail by chance only where the product does.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { coverageOf, type FileCoverage, readLcov } from './coverage.ts'
import { type Failure, readFailures, readSummary, type Tally } from './test-output.ts'

const ROOT = join(import.meta.dirname, '..')
const BUDGET_MS = 25 * 60_000
const TEST_TIMEOUT_MS = 60_000
/** Of the lines of src that the unit tests load; processes that tests start are not measured. */
const COVERAGE_MIN_PERCENT = 85

/** What takes longest and fails for want of anything else comes behind all other folders of test/, whichever there are. */
const LAST = ['test/e2e', 'test/faults']

/** Unit tests wait more than they compute: two folders at a time take two thirds of the time of one. */
const SIDE_BY_SIDE = 2

/** More failed files than this in a suite are no chance: there is no second run. */
const SECOND_RUN_FILES_MAX = 3

type Suite = { name: string; files: string[]; coverage: boolean }
/** Where what a suite prints goes. */
type Out = (text: string | Uint8Array) => void
type Result = { tally: Tally; failures: Failure[] }

const filters = process.argv.slice(2).filter((argument) => argument !== '--')
const suites = findSuites(filters)
if (suites.length === 0) {
  console.error(`no test file matches ${filters.join(' ')}`)
  process.exit(1)
}
const gated = filters.length === 0
const times: string[] = []
const covered: FileCoverage[] = []
const endsAt = performance.now() + BUDGET_MS

const units = suites.filter(({ coverage }) => coverage).sort((a, b) => weightOf(b) - weightOf(a))
const results = new Map<Suite, Result>()
await Promise.all(
  Array.from({ length: SIDE_BY_SIDE }, async () => {
    for (let suite = units.shift(); suite; suite = units.shift()) {
      const said: (string | Uint8Array)[] = []
      results.set(suite, await run(suite, (text) => said.push(text)))
      for (const text of said) process.stdout.write(text)
    }
  }),
)
const unsteady: Failure[] = []
for (const [suite, first] of results) results.set(suite, await secondRun(suite, first))
for (const suite of suites)
  if (!suite.coverage) {
    results.set(suite, await run(suite, (text) => process.stdout.write(text)))
  }

async function run(suite: Suite, out: Out): Promise<Result> {
  out(`\n── ${suite.name}\n`)
  const began = performance.now()
  const result = await runSuite(suite, endsAt - began, out)
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  times.push(`${seconds.padStart(7)} s  ${suite.name}: ${sentence(result.tally)}`)
  if (suite.coverage) covered.push(...readLcov(join(coverageDir(suite), 'lcov.info')))
  return result
}

/** Of the files that failed beside another suite, alone. Without one when every failure has no name: the suite itself broke. */
async function secondRun(suite: Suite, first: Result): Promise<Result> {
  const files = [...new Set(first.failures.map(({ file }) => file))]
  const named = first.failures.length === first.tally.failed
  if (files.length === 0 || files.length > SECOND_RUN_FILES_MAX || !named) return first
  const again = { name: `${suite.name}, failed files alone`, files, coverage: false }
  const second = await run(again, (text) => process.stdout.write(text))
  if (second.tally.failed > 0) return { tally: first.tally, failures: second.failures }
  unsteady.push(...first.failures)
  const { passed, failed, skipped } = first.tally
  return { tally: { passed: passed + failed, failed: 0, skipped }, failures: [] }
}

const total: Tally = { passed: 0, failed: 0, skipped: 0 }
for (const { tally } of results.values()) {
  total.passed += tally.passed
  total.failed += tally.failed
  total.skipped += tally.skipped
}
tell(
  'failed',
  [...results.values()].flatMap(({ failures }) => failures),
)
tell('unsteady: failed beside another suite, passed alone', unsteady)
console.log(`\n${times.join('\n')}`)
if (gated && !passesCoverage(covered)) total.failed++
console.log(`\n${sentence(total)}`)
process.exit(total.failed === 0 ? 0 : 1)

function tell(heading: string, failures: Failure[]): void {
  if (failures.length > 0) console.log(`\n── ${heading}`)
  for (const { file, name, said } of failures) console.log(`\n${file}: ${name}\n${said.join('\n')}`)
}

function sentence({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

function findSuites(texts: string[]): Suite[] {
  const under = (folder: string) => {
    if (!existsSync(join(ROOT, folder))) return []
    return [...new Bun.Glob(`${folder}/**/*.test.ts`).scanSync({ cwd: ROOT })].sort()
  }
  const foldersOf = (folder: string) =>
    readdirSync(join(ROOT, folder), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `${folder}/${entry.name}`)
      .sort()
  const outside = foldersOf('test').filter((name) => !LAST.includes(name))
  const all: Suite[] = [
    ...foldersOf('src').map((name) => ({ name, files: under(name), coverage: true })),
    ...['scripts', 'bench', ...outside, ...LAST].map((name) => ({
      name,
      files: under(name),
      coverage: false,
    })),
  ]
  const matches = (file: string) => texts.length === 0 || texts.some((text) => file.includes(text))
  return all
    .map((suite) => ({ ...suite, files: suite.files.filter(matches) }))
    .filter((suite) => suite.files.length > 0)
}

/** Which takes longest is not known before; the number of test files tells well enough. */
function weightOf(suite: Suite): number {
  return suite.files.length
}

function coverageDir(suite: Suite): string {
  return join(ROOT, 'coverage', suite.name.replaceAll('/', '-'))
}

async function runSuite(suite: Suite, budgetMs: number, out: Out): Promise<Result> {
  if (budgetMs <= 0) {
    out(`not run: the ${BUDGET_MS / 60_000} minutes are over\n`)
    return { tally: { passed: 0, failed: 1, skipped: 0 }, failures: [] }
  }
  const options = ['--no-orphans', `--timeout=${TEST_TIMEOUT_MS}`]
  if (suite.coverage) {
    rmSync(coverageDir(suite), { recursive: true, force: true })
    options.push('--coverage', '--coverage-reporter=lcov', `--coverage-dir=${coverageDir(suite)}`)
  }
  const child = Bun.spawn([process.execPath, 'test', ...options, ...suite.files.map((file) => `./${file}`)], {
    cwd: ROOT,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  // SIGTERM first: with --no-orphans it takes what the tests started along.
  let late = false
  const timers = [
    setTimeout(() => {
      late = true
      child.kill('SIGTERM')
    }, budgetMs),
    setTimeout(() => child.kill('SIGKILL'), budgetMs + 10_000),
  ]
  const [, output, code] = await Promise.all([show(child.stdout, out), show(child.stderr, out), child.exited])
  for (const timer of timers) clearTimeout(timer)
  const tally = readSummary(output)
  if (late) out(`stopped: the ${BUDGET_MS / 60_000} minutes are over\n`)
  const incomplete = late || code !== 0 || tally.passed + tally.failed + tally.skipped === 0
  if (incomplete && tally.failed === 0) {
    if (!late) out(`the suite ended with exit code ${code} without a failed test\n`)
    tally.failed = 1
  }
  return { tally, failures: readFailures(output) }
}

/** Passes a stream on as it comes, and returns all of it. */
async function show(from: ReadableStream<Uint8Array>, out: Out): Promise<string> {
  const decoder = new TextDecoder()
  const texts: string[] = []
  for await (const chunk of from) {
    out(chunk)
    texts.push(decoder.decode(chunk, { stream: true }))
  }
  return texts.join('')
}

function passesCoverage(files: FileCoverage[]): boolean {
  const loaded = files.filter(({ file }) => file.startsWith('src/') && !/\.(test|fixture)\.ts$/.test(file))
  const { lines, hit, percent, worst } = coverageOf(loaded)
  console.log(`\ncoverage of src: ${percent.toFixed(1)} % of ${lines} lines (${hit} run), least in:`)
  for (const { file, percent: share } of worst.slice(0, 5))
    console.log(`${share.toFixed(1).padStart(7)} %  ${file}`)
  if (percent >= COVERAGE_MIN_PERCENT) return true
  console.log(`coverage is below ${COVERAGE_MIN_PERCENT} %`)
  return false
}
