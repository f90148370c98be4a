/**
 * A set of transformations as a folder that is kept with one's code: `transformations.json` with the steps in order,
 * files of TypeScript beside it, tables, and cases. In: a path. Out: a definition, or HR_TRANSFORM_SET which names the
 * file. Nothing outside of the folder is read.
 */
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { isObject, type Json } from '../event/index.ts'
import { readCases, type TransformCase } from './cases.ts'
import { transformError } from './errors.ts'
import { parseSet, type SetDefinition } from './set.ts'

const MAIN = 'transformations.json'
const CASES = 'cases'

export type SetFolder = { readonly definition: SetDefinition; readonly cases: readonly TransformCase[] }

export function readSetFolder(folder: string): SetFolder {
  const main = readJson(folder, MAIN)
  if (!isObject(main)) throw refusal(`${MAIN} is not a JSON object`)
  const steps = Array.isArray(main.steps) ? main.steps.map((step) => withSource(folder, step)) : main.steps
  const tables = isObject(main.tables)
    ? Object.fromEntries(
        Object.entries(main.tables).map(([name, table]) => [
          name,
          typeof table === 'string' ? readJson(folder, table) : table,
        ]),
      )
    : main.tables
  const definition = parseSet({ ...main, steps, ...(tables !== undefined && { tables }) })
  return { definition, cases: caseFiles(folder).flatMap((file) => readCases(file, readJson(folder, file))) }
}

function withSource(folder: string, step: Json): Json {
  if (!isObject(step) || typeof step.file !== 'string') return step
  const { file, ...rest } = step
  return { ...rest, source: readText(folder, file) }
}

function caseFiles(folder: string): string[] {
  try {
    return readdirSync(join(folder, CASES))
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => join(CASES, name))
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return []
    throw refusal(`${CASES} cannot be read: ${(error as Error).message}`, error)
  }
}

function readText(folder: string, file: string): string {
  let path: string
  try {
    path = realpathSync(join(folder, file))
    if (path.startsWith(realpathSync(folder) + sep)) return readFileSync(path, 'utf8')
  } catch (error) {
    throw refusal(`${file} cannot be read: ${(error as Error).message}`, error)
  }
  throw refusal(`${file} is outside of the folder`)
}

function readJson(folder: string, file: string): Json {
  const text = readText(folder, file)
  try {
    return JSON.parse(text) as Json
  } catch (error) {
    throw refusal(`${file} is not JSON: ${(error as Error).message}`, error)
  }
}

function refusal(what: string, cause?: unknown) {
  return transformError('HR_TRANSFORM_SET', what, cause)
}

const EXAMPLE: Readonly<Record<string, string>> = {
  [MAIN]: `${JSON.stringify(
    {
      steps: [
        { name: 'anonymise-ip', use: 'anonymise-ip' },
        { name: 'section', file: 'section.ts', policy: 'pass' },
      ],
    },
    undefined,
    2,
  )}\n`,
  'section.ts': `import type { TransformFunction } from './headrace'

/** The part of the site that a page belongs to. */
const transform: TransformFunction = (event) => {
  const path = event.properties.$pathname
  if (event.event === '$pageview' && typeof path === 'string') event.properties.section = path.split('/')[1] ?? ''
  return event
}
export default transform
`,
  [join(CASES, 'section.json')]: `${JSON.stringify(
    [
      {
        name: 'a page has its section, and no full address',
        input: { event: '$pageview', properties: { $pathname: '/docs/install', $ip: '203.0.113.7' } },
        expected: [{ properties: { $pathname: '/docs/install', $ip: '203.0.113.0', section: 'docs' } }],
      },
    ],
    undefined,
    2,
  )}\n`,
  'headrace.d.ts': readFileSync(new URL('./headrace.d.ts', import.meta.url), 'utf8'),
}

/** A set to begin with. Files that are there stay, but for the types, which are made anew. Gives the names of what it wrote. */
export function writeExample(folder: string): string[] {
  mkdirSync(join(folder, CASES), { recursive: true })
  const isNew = !readdirSync(folder).includes(MAIN)
  const names = Object.keys(EXAMPLE).filter((name) => isNew || name === 'headrace.d.ts')
  for (const name of names) writeFileSync(join(folder, name), EXAMPLE[name]!)
  return names
}
