/**
 * `headrace transform`: a project's transformations from a folder to live traffic. The work is in `src/transform/`; here
 * are the flags, and what is printed.
 */
import type { Command } from 'commander'
import {
  DEFAULT_PROJECT,
  type PublishedSet,
  publishedSets,
  publishSet,
  readProject,
  readShadow,
  type ShadowReport,
  startShadow,
  stopShadow,
  transformationKey,
} from '../catalog/index.ts'
import type { SetDefinition, StepDefinition } from '../transform/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'

type Flags = DeploymentFlags & { project: string; json?: boolean }
type Done = (code: ExitCode) => void

export function addTransform(program: Command, done: Done): void {
  const verb = program
    .command('transform')
    .description('what is done to a project’s events before they are stored')
    .addHelpText(
      'after',
      `
Examples:
  headrace transform init transformations
  headrace transform test transformations
  headrace transform try transformations --last 100
  headrace transform shadow start transformations
  headrace transform shadow report
  headrace transform publish transformations --note "hide addresses"
  headrace transform list
  headrace transform rollback --to 3

docs/guides/transformations.md tells how they are written.`,
    )
  verb
    .command('init')
    .argument('<folder>', 'made when it is not there')
    .description('write a set to begin with, and the types for your editor')
    .action(async (folder: string) => {
      const { writeExample } = await import('../transform/index.ts')
      for (const name of writeExample(folder)) write(`${folder}/${name}`)
      done(EXIT.done)
    })
  verb
    .command('test')
    .argument('<folder>', 'with transformations.json and cases/')
    .description('run the cases of a set; needs no server')
    .option('--json', 'one JSON array')
    .action(async (folder: string, flags: { json?: boolean }) => done(await runTest(folder, flags)))
  withProject(verb.command('try'))
    .argument('<folder>', 'with transformations.json')
    .description('show what a set would make of the last events that were captured; changes nothing')
    .option('--last <count>', 'so many', parseCount, 100)
    .option('--json', 'one JSON object')
    .action(async (folder: string, flags: Flags & { last: number }) => done(await runTry(folder, flags)))
  withProject(verb.command('publish'))
    .argument('<folder>', 'with transformations.json')
    .description('run the cases, and let the set work on live traffic')
    .option('--note <text>', 'kept with the version', '')
    .option('--after <version>', 'only if this is still the newest version', parseCount)
    .option('--json', 'one JSON object')
    .action(async (folder: string, flags: Flags & { note: string; after?: number }) =>
      done(await runPublish(folder, flags)),
    )
  const shadow = verb
    .command('shadow')
    .description('run a draft beside what holds, on live traffic, and tell where it differs')
  withProject(shadow.command('start'))
    .argument('<folder>', 'with transformations.json')
    .description('begin, in place of another draft; what is stored stays as it is')
    .option('--hours <count>', 'end by itself after', parseCount, 24)
    .action(async (folder: string, flags: Flags & { hours: number }) => done(await runShadow(folder, flags)))
  withProject(shadow.command('report'))
    .description('how often and in what it differed, with samples')
    .option('--json', 'one JSON object')
    .action(async (flags: Flags) => done(await runReport(flags)))
  withProject(shadow.command('stop'))
    .description('end it, and forget what was seen')
    .action(async (flags: Flags) => done(await runStop(flags)))
  withProject(verb.command('list'))
    .description('the versions that were published, and the steps of the newest')
    .option('--json', 'one JSON array')
    .action(async (flags: Flags) => done(await runList(flags)))
  withProject(verb.command('rollback'))
    .description('publish an earlier version once more, as the newest')
    .requiredOption('--to <version>', 'see `headrace transform list`; 0 is none at all', (text) =>
      text === '0' ? 0 : parseCount(text),
    )
    .option('--json', 'one JSON object')
    .action(async (flags: Flags & { to: number }) => done(await runRollback(flags)))
}

function withProject(command: Command): Command {
  return withDeployment(command).option('--project <name>', 'of this project', DEFAULT_PROJECT)
}

async function runTest(folder: string, { json }: { json?: boolean }): Promise<ExitCode> {
  const { readSetFolder, runCases } = await import('../transform/index.ts')
  const { definition, cases } = readSetFolder(folder)
  const results = await runCases(definition, cases)
  const failed = results.filter(({ differences }) => differences.length > 0)
  if (json) write(JSON.stringify(results))
  else {
    for (const { name, file, differences, logs } of results) {
      write(`${differences.length === 0 ? 'ok  ' : 'FAIL'} ${file}: ${name}`)
      for (const line of differences) write(`       ${line}`)
      for (const line of logs) write(`       log ${line}`)
    }
    write(`${results.length - failed.length} passed, ${failed.length} failed`)
  }
  if (results.length === 0) throw cliError('HR_CLI_ARGUMENT', `${folder}/cases has no case`)
  return failed.length === 0 ? EXIT.done : EXIT.finding
}

async function runTry(folder: string, flags: Flags & { last: number }): Promise<ExitCode> {
  const transform = await import('../transform/index.ts')
  const { lastCaptured } = await import('../ingest/index.ts')
  const settings = settingsOf(flags)
  const { definition } = transform.readSetFolder(folder)
  const context = new Context(settings, 'transform', 2)
  try {
    context.requireRunning()
    const { deployment } = await context.prepareState()
    const project = await readProject(context.sql, flags.project)
    const events = await lastCaptured(await context.log(), deployment.partitions, project, flags.last)
    const geoip = settings.geoipDatabase === '' ? () => null : transform.openGeoip(settings.geoipDatabase)
    const key = (await transformationKey(context.sql, project.teamId)) ?? transform.CASE_KEY
    const set = await transform.openSet(definition, { key, geoip })
    const logs: string[] = []
    const outcomes = await transform
      .runChain(set.steps, events, { onLog: (step, { text }) => logs.push(`${step}: ${text}`) })
      .finally(() => set.close())
    const shown = outcomes.map((outcome, i) => ({
      uuid: events[i]!.uuid,
      event: events[i]!.event,
      became: transform.tell(outcome),
      changes:
        outcome.kind === 'kept'
          ? outcome.events.flatMap(({ event }) => transform.differences(events[i]!, event))
          : [],
    }))
    if (flags.json) write(JSON.stringify({ events: shown, logs }))
    else printTried(shown, logs)
    return outcomes.some(({ kind }) => kind === 'quarantined') ? EXIT.finding : EXIT.done
  } finally {
    await context.close()
  }
}

type Tried = { uuid: string; event: string; became: string; changes: string[] }

function printTried(events: readonly Tried[], logs: readonly string[]): void {
  let untouched = 0
  for (const { uuid, event, became, changes } of events) {
    if (changes.length === 0 && became === 'it was kept') {
      untouched++
      continue
    }
    write(`${uuid} ${event}: ${became}`)
    for (const line of changes) write(`  ${line}`)
  }
  for (const line of logs) write(`log ${line}`)
  write(`${events.length} events, ${untouched} of them as they were`)
}

async function runPublish(
  folder: string,
  flags: Flags & { note: string; after?: number },
): Promise<ExitCode> {
  const { readSetFolder, runCases } = await import('../transform/index.ts')
  const { definition, cases } = readSetFolder(folder)
  const failed = (await runCases(definition, cases)).filter(({ differences }) => differences.length > 0)
  if (failed.length > 0) {
    process.stderr.write(
      `headrace: ${failed.length} of ${cases.length} cases fail; \`headrace transform test\` tells which\n`,
    )
    return EXIT.finding
  }
  return withState(flags, 'transform', async ({ sql, settings }) => {
    if (
      settings.geoipDatabase === '' &&
      definition.steps.some((step) => 'use' in step && step.use === 'geoip')
    )
      process.stderr.write(
        'headrace: HEADRACE_GEOIP_DATABASE names no file here; `geoip` finds nothing without one\n',
      )
    const { teamId } = await readProject(sql, flags.project)
    const { note, after } = flags
    print(await publishSet(sql, teamId, definition, { note, ...(after !== undefined && { after }) }), flags)
    return EXIT.done
  })
}

async function runRollback(flags: Flags & { to: number }): Promise<ExitCode> {
  return withState(flags, 'transform', async ({ sql }) => {
    const { teamId } = await readProject(sql, flags.project)
    const all = await publishedSets(sql, teamId, 1_000_000)
    const found = all.find(({ version }) => version === flags.to)
    if (!found && flags.to !== 0)
      throw cliError(
        'HR_CLI_ARGUMENT',
        `project ${flags.project} has no version ${flags.to} of its transformations`,
      )
    const definition = found?.definition ?? { steps: [] }
    print(await publishSet(sql, teamId, definition, { note: `back to version ${flags.to}` }), flags)
    return EXIT.done
  })
}

async function runShadow(folder: string, flags: Flags & { hours: number }): Promise<ExitCode> {
  const { CASE_KEY, openSet, readSetFolder } = await import('../transform/index.ts')
  const { definition } = readSetFolder(folder)
  // What does not compile is refused here, where somebody sees it.
  const set = await openSet(definition, { key: CASE_KEY, geoip: () => null })
  set.close()
  return withState(flags, 'transform', async ({ sql }) => {
    const { teamId } = await readProject(sql, flags.project)
    await startShadow(sql, teamId, definition, { hours: flags.hours, fallbackKey: CASE_KEY })
    write(
      `the draft sees traffic of project ${flags.project} within seconds; \`headrace transform shadow report\` tells of it`,
    )
    return EXIT.done
  })
}

async function runReport(flags: Flags): Promise<ExitCode> {
  return withState(flags, 'transform', async ({ sql }) => {
    const { teamId } = await readProject(sql, flags.project)
    const report = await readShadow(sql, teamId)
    if (flags.json) write(JSON.stringify(report ?? null))
    else write(report ? reportText(report) : `project ${flags.project} has no draft`)
    return report && report.trouble !== '' ? EXIT.finding : EXIT.done
  })
}

function reportText({ counts, fields, samples, startedAt, stopsAt, trouble }: ShadowReport): string {
  const byCount = (all: Record<string, number>) =>
    Object.entries(all)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => [name, String(count)])
  return [
    `since ${startedAt.toISOString()}, until ${stopsAt.toISOString()}; at most 100 events of each batch are looked at`,
    ...(trouble === '' ? [] : [`it was ended: ${trouble}`]),
    '',
    formatTable(['what holds → the draft', 'events'], byCount(counts)),
    '',
    formatTable(['differs in', 'events'], byCount(fields)),
    ...samples.flatMap(({ uuid, event, became, differences }) => [
      '',
      `${uuid} ${event}: ${became}`,
      ...differences.map((line) => `  ${line}`),
    ]),
  ].join('\n')
}

async function runStop(flags: Flags): Promise<ExitCode> {
  return withState(flags, 'transform', async ({ sql }) => {
    const { teamId } = await readProject(sql, flags.project)
    const stopped = await stopShadow(sql, teamId)
    write(stopped ? 'the draft is ended' : `project ${flags.project} has no draft`)
    return stopped ? EXIT.done : EXIT.finding
  })
}

function print(set: PublishedSet, { json, project }: Flags): void {
  write(
    json
      ? JSON.stringify(set)
      : `version ${set.version} of the transformations of project ${project} holds within seconds, as generation ${set.generation}`,
  )
}

async function runList(flags: Flags): Promise<ExitCode> {
  return withState(flags, 'transform', async ({ sql }) => {
    const { teamId } = await readProject(sql, flags.project)
    const sets = await publishedSets(sql, teamId)
    if (flags.json) write(JSON.stringify(sets))
    else if (sets.length === 0) write(`project ${flags.project} has no transformations`)
    else
      write(
        [
          formatTable(
            ['version', 'generation', 'published', 'steps', 'note'],
            sets.map((set) => [
              String(set.version),
              String(set.generation),
              set.publishedAt.toISOString(),
              String((set.definition as SetDefinition).steps.length),
              set.note,
            ]),
          ),
          '',
          `the steps of version ${sets[0]!.version}:`,
          formatTable(['name', 'does', 'policy'], (sets[0]!.definition as SetDefinition).steps.map(stepRow)),
        ].join('\n'),
      )
    return EXIT.done
  })
}

function stepRow(step: StepDefinition): string[] {
  const does = 'use' in step ? `${step.use} ${JSON.stringify(step.options ?? {})}` : 'code'
  return [step.name, does.slice(0, 100), step.policy ?? 'quarantine']
}

function write(text: string): void {
  process.stdout.write(`${text}\n`)
}
