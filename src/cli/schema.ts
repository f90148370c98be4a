/** `headrace schema show`: the events and properties that a project sends. What is shown is `src/definitions/`. */
import type { Command } from 'commander'
import { DEFAULT_PROJECT, readProject } from '../catalog/index.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'

type SchemaFlags = DeploymentFlags & { project: string; event?: string; limit: number; json?: boolean }

export function addSchema(program: Command, done: (code: ExitCode) => void): void {
  const schema = program.command('schema').description('the events and properties that projects send')
  withDeployment(schema.command('show'))
    .description(
      'names, types, first and last seen, and how often; read from ClickHouse, a minute or so behind',
    )
    .option('--project <name>', 'the project', DEFAULT_PROJECT)
    .option('--event <name>', 'only this event, with its properties')
    .option('--limit <count>', 'lines of each table', parseCount, 50)
    .option('--json', 'one JSON object with all of it')
    .addHelpText(
      'after',
      `
Examples:
  headrace schema show --project shop
  headrace schema show --event "order paid"
  headrace schema show --json | jq '.properties[] | select(.conflict)'`,
    )
    .action(async (flags: SchemaFlags) => done(await runShow(flags)))
}

async function runShow(flags: SchemaFlags): Promise<ExitCode> {
  const { readSchema, schemaTables } = await import('../definitions/index.ts')
  const found = await withState(flags, 'schema', async ({ sql }) =>
    readSchema(sql, (await readProject(sql, flags.project)).teamId, flags.event),
  )
  const tables = schemaTables(found, flags.limit).map(
    ({ title, head, rows }) => `${title}\n${formatTable(head, rows)}`,
  )
  const { events, properties } = found.beyond
  if (events + properties > 0)
    tables.push(
      `beyond the limits, and not kept: ${events} events, ${properties} properties (docs/guides/schema.md)`,
    )
  const text = tables.length > 0 ? tables.join('\n\n') : 'none yet'
  process.stdout.write(`${flags.json ? JSON.stringify(found) : text}\n`)
  return found.events.length > 0 ? EXIT.done : EXIT.finding
}
