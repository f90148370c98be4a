/**
 * Writes docs/reference from the code: settings, errors, outcomes and warnings, metrics, the tables in ClickHouse, and
 * the OpenAPI document of capture. `--check` writes nothing and fails when a page is not what the code says.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { captureOpenapi, REJECT_REASONS } from '../src/capture/index.ts'
import { readSettings, settingsReference } from '../src/catalog/index.ts'
import {
  DEAD_LETTER_REASONS,
  type DeadLetterReason,
  DROP_REASONS,
  type DropReason,
  deadLetterCode,
  dropCode,
  type ErrorSpec,
  WARNING_TYPES,
} from '../src/event/index.ts'

import { tablesReference } from './tables-reference.ts'
import { transformationsReference } from './transformations-reference.ts'

const ROOT = join(import.meta.dirname, '..')
const FOLDER = join('docs', 'reference')

const sources = [...new Bun.Glob('src/**/*.ts').scanSync({ cwd: ROOT })]
  .filter((file) => !/\.(test|fixture)\.ts$/.test(file))
  .sort()
  .map((file) => ({ file, text: readFileSync(join(ROOT, file), 'utf8') }))

const pages: Record<string, string> = {
  'settings.md': settingsReference(),
  'errors.md': await errorsPage(),
  'outcomes.md': outcomesPage(),
  'metrics.md': metricsPage(),
  'tables.md': page('Tables', tablesReference(table)),
  'transformations.md': page('Built-in transformations', transformationsReference(table)),
  'capture-openapi.json': openapiPage(),
}

const stale = Object.entries(pages).filter(([name, text]) => readPage(name) !== text)
if (process.argv.includes('--check')) {
  for (const [name] of stale) {
    console.log(`${FOLDER}/${name} is not what the code says; run npm run reference and commit it`)
  }
  process.exit(stale.length === 0 ? 0 : 1)
}
mkdirSync(join(ROOT, FOLDER), { recursive: true })
for (const [name, text] of stale) writeFileSync(join(ROOT, FOLDER, name), text)

function readPage(name: string): string {
  try {
    return readFileSync(join(ROOT, FOLDER, name), 'utf8')
  } catch {
    return ''
  }
}

/** With the limits that capture has when nothing is set. */
function openapiPage(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  return `${JSON.stringify(captureOpenapi(readSettings({}), version), undefined, 2)}\n`
}

/** Every exported table `<AREA>_ERRORS`, under the folder that throws it. */
async function errorsPage(): Promise<string> {
  const specs = new Map<string, { spec: ErrorSpec; folder: string }>()
  for (const { file, text } of sources) {
    for (const [, table] of text.matchAll(/^export const (\w+_ERRORS) =/gm)) {
      const module = (await import(join(ROOT, file))) as Record<string, Record<string, ErrorSpec>>
      for (const [code, spec] of Object.entries(module[table!]!)) {
        const known = specs.get(code)
        if (known) throw new Error(`${code} is in a table of ${known.folder} and in ${file}`)
        specs.set(code, { spec, folder: file.split('/')[1]! })
      }
    }
  }
  const folders = [...new Set([...specs.values()].map(({ folder }) => folder))]
  const sections = folders.flatMap((folder) => [
    `## ${folder}`,
    '',
    ...[...specs].flatMap(([code, { spec, folder: of }]) =>
      of === folder
        ? [`### ${code}`, '', spec.meaning, '', `Class: ${spec.class}.${httpStatus(spec)}`, '']
        : [],
    ),
  ])
  return page('Errors', [
    'The class says what happens next. *retriable*: the world is at fault; the work waits, with backoff, and is tried again. *rejected*: this one input is at fault; it is refused or goes to the dead letters, and its neighbours go on. *fatal*: the process stops with one sentence, and the supervisor starts it again.',
    '',
    ...sections,
    '## Refused events',
    '',
    'Capture stores a request without these of its events. Its answer lists them under `rejected`: index, reason, field and a sentence. When none can be stored, the answer is `HR_CAPTURE_NOTHING_STORED`.',
    '',
    ...table(
      ['Reason', 'Meaning'],
      Object.entries(REJECT_REASONS).map(([reason, meaning]) => [`\`${reason}\``, meaning]),
    ),
    '',
  ])
}

function httpStatus({ status }: ErrorSpec): string {
  return status === undefined ? '' : ` HTTP status: ${status}.`
}

function outcomesPage(): string {
  const drops = Object.entries(DROP_REASONS).map(([reason, meaning]) => [
    `\`${reason}\``,
    String(dropCode(reason as DropReason)),
    meaning,
  ])
  const deadLetters = Object.entries(DEAD_LETTER_REASONS).map(([reason, meaning]) => [
    `\`${reason}\``,
    String(deadLetterCode(reason as DeadLetterReason)),
    meaning,
  ])
  const warnings = Object.entries(WARNING_TYPES).map(([type, meaning]) => [`\`${type}\``, meaning])
  return page('What can become of an event', [
    'The code is what a receipt holds for the offset: 0 is stored, 1 is a duplicate.',
    '',
    '## Dropped',
    '',
    ...table(['Reason', 'Code', 'Meaning'], drops),
    '',
    '## Dead-lettered',
    '',
    'The original bytes are kept, with the reason and the detail.',
    '',
    ...table(['Reason', 'Code', 'Meaning'], deadLetters),
    '',
    '## Warnings',
    '',
    "The event goes on; the project's owner is told.",
    '',
    ...table(['Type', 'Meaning'], warnings),
    '',
  ])
}

/** Read from the sources, so that a metric of a process that does not run here is listed too. */
function metricsPage(): string {
  const rows = new Map<string, string[]>()
  for (const { file, text } of sources) {
    if (file.startsWith('src/observe/')) continue
    for (const match of text.matchAll(/\b(counter|tallies|gauge|histogram)\(\s*(?=['"`])/g)) {
      const [kind, name, help, labels] = readMetric(
        match[1]!,
        text.slice(match.index + match[0].length),
        file,
      )
      rows.set(name, [`\`${name}\``, kind, labels, help])
    }
  }
  const sorted = [...rows.keys()].sort().map((name) => rows.get(name)!)
  return page('Metrics', [
    'In Prometheus text format at `/metrics` of every role, next to those of the process (`process_*`, `nodejs_*`).',
    '',
    ...table(['Name', 'Kind', 'Labels', 'Meaning'], sorted),
    '',
  ])
}

/** Name, help, for a histogram its buckets, labels: all literals, so that they can be read without running. */
function readMetric(kind: string, call: string, file: string): [string, string, string, string] {
  const text = /^(['"])((?:\\.|(?!\1).)*)\1\s*,?\s*/
  const name = text.exec(call)
  const help = name && text.exec(call.slice(name[0].length))
  if (!name || !help)
    throw new Error(`${file}: name and help of a ${kind} must be plain literals: ${call.slice(0, 80)}`)
  let rest = call.slice(name[0].length + help[0].length)
  if (kind === 'histogram') rest = rest.replace(/^(\[[^\]]*\]|[\w.]+)\s*,?\s*/, '')
  const labels = /^\[([^\]]*)\]/.exec(rest)?.[1] ?? ''
  const words = [...labels.matchAll(/'([^']+)'/g)].map(([, label]) => `\`${label}\``)
  return [kind === 'tallies' ? 'counter' : kind, name[2]!, help[2]!.replace(/\\(.)/g, '$1'), words.join(', ')]
}

function page(title: string, lines: string[]): string {
  const text = [`# ${title}`, '', ...lines].join('\n')
  return `${text.trimEnd()}\n`
}

function table(head: string[], rows: string[][]): string[] {
  const row = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [row(head), row(head.map(() => '---')), ...rows.map(row)]
}
