/** `headrace trace`: the life of one event, or the newest events that one may want to trace. The search is `src/ledger/`. */
import type { Command } from 'commander'
import { listProjects, NO_PROJECT, readProject } from '../catalog/index.ts'
import { canonicalUuid } from '../event/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { formatTable } from './table.ts'
import { parseTime } from './time.ts'

type TraceFlags = DeploymentFlags & {
  json?: boolean
  distinctId?: string
  lastErrors?: boolean
  project?: string
  since?: number
  limit: number
}

export function addTrace(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('trace'))
    .argument('[uuid]', 'the uuid of the event')
    .description('tell what became of one event, or list events to trace')
    .option('--distinct-id <id>', 'list the newest events of this distinct id and what became of each')
    .option('--last-errors', 'list the newest events that were dropped or dead-lettered')
    .option('--project <name>', 'of a list: only this project')
    .option('--since <time>', 'of a list: a date, or 30m, 12h, 7d ago', parseTime)
    .option('--limit <count>', 'of a list', parseCount, 20)
    .option('--json', 'one JSON object; of a list, an array')
    .addHelpText(
      'after',
      `
Examples:
  headrace trace 0190b1a2-7c3d-7e4f-8a5b-6c7d8e9f0a1b
  headrace trace --distinct-id ada@example.com
  headrace trace --last-errors --since 1h

Exit code 1 when nothing is known of it.`,
    )
    .action(async (uuid: string | undefined, flags: TraceFlags) => done(await runTrace(uuid, flags)))
}

async function runTrace(text: string | undefined, flags: TraceFlags): Promise<ExitCode> {
  const asked = [text, flags.distinctId, flags.lastErrors].filter((one) => one !== undefined)
  if (asked.length !== 1)
    throw cliError('HR_CLI_ARGUMENT', 'say one of: a uuid, --distinct-id <id>, --last-errors')
  const settings = settingsOf(flags)
  const uuid = text === undefined ? undefined : canonicalUuid(text)
  if (text !== undefined && uuid === undefined) throw cliError('HR_CLI_ARGUMENT', `"${text}" is not a uuid`)
  const context = new Context(settings, 'trace', 2)
  try {
    context.requireRunning()
    return uuid === undefined ? await list(context, flags) : await one(context, uuid, flags)
  } finally {
    await context.close()
  }
}

async function one(context: Context, uuid: string, flags: TraceFlags): Promise<ExitCode> {
  const { formatTrace, trace } = await import('../ledger/index.ts')
  const deps = { sql: context.sql, log: await context.log(), warehouse: await context.warehouse() }
  const found = await trace(deps, uuid)
  process.stdout.write(`${flags.json === true ? JSON.stringify(found) : formatTrace(found)}\n`)
  return found.found ? EXIT.done : EXIT.finding
}

async function list(context: Context, flags: TraceFlags): Promise<ExitCode> {
  const { lastErrors, recentOf, recentTable } = await import('../ledger/index.ts')
  const project = flags.project === undefined ? undefined : await readProject(context.sql, flags.project)
  const projects = await listProjects(context.sql)
  const names = new Map(projects.map(({ teamId, name }) => [teamId, name]))
  const options = {
    // What belongs to no project was dropped, too.
    teamIds: project ? [project.teamId] : [NO_PROJECT, ...names.keys()],
    limit: flags.limit,
    sinceMs: flags.since,
    nowMs: Date.now(),
  }
  const warehouse = await context.warehouse()
  const events =
    flags.distinctId === undefined
      ? await lastErrors(warehouse, options)
      : await recentOf(warehouse, flags.distinctId, options)
  const table = recentTable(events, (teamId) => names.get(teamId))
  const text =
    events.length === 0
      ? 'none in ClickHouse; what came in the last seconds may be on its way'
      : `${formatTable(table.head, table.rows)}\n\n\`headrace trace <uuid>\` tells the whole life of one`
  process.stdout.write(`${flags.json === true ? JSON.stringify(events) : text}\n`)
  return events.length > 0 ? EXIT.done : EXIT.finding
}
