/**
 * What a test needs that npm cannot bring, as `npm test` found or fetched it (scripts/test-tools.mjs).
 *
 *   test.skipIf(missing('chromium') !== undefined)('…', () => launch(tool('chromium')))
 *
 * Outside CI a test whose tool is missing is skipped, with one line that says how to get it. In CI `missing` never
 * says so: the test runs, `tool` throws that line, the test fails.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export type Tool = 'chromium' | 'python' | 'java' | 'mvn' | 'go'

type Finding = { path?: string; missing?: string }

const FINDINGS = join(import.meta.dirname, '..', '..', '.cache', 'test-tools.json')
const said = new Set<Tool>()

/** Path of the program; `python` can import the posthog package. Throws the line that says how to get it. */
export function tool(name: Tool): string {
  const { path, missing: reason } = finding(name)
  if (path) return path
  throw new Error(`${name}: ${reason}`)
}

/** Undefined when the tool is there (or in CI), else the line that says how to get it, printed once. */
export function missing(name: Tool): string | undefined {
  const { path, missing: reason } = finding(name)
  if (path || process.env.CI === 'true') return undefined
  if (!said.has(name)) console.warn(`skipped without ${name}: ${reason}`)
  said.add(name)
  return reason
}

function finding(name: Tool): Finding {
  if (!existsSync(FINDINGS)) return { missing: 'run node scripts/prepare.mjs --tests first' }
  const found = (JSON.parse(readFileSync(FINDINGS, 'utf8')) as Partial<Record<Tool, Finding>>)[name]
  return found ?? { missing: 'run node scripts/prepare.mjs --tests again' }
}
