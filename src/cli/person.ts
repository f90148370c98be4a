/** `headrace person delete|deletions`: what is known of a person goes. The work is `src/deletion/`. */
import { hostname, userInfo } from 'node:os'
import { createInterface } from 'node:readline/promises'
import { type Command, Option } from 'commander'
import { DEFAULT_PROJECT, listProjects, readProject } from '../catalog/index.ts'
import type { DeletionDeps } from '../deletion/index.ts'
import { canonicalUuid } from '../event/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'

type DeleteFlags = DeploymentFlags & {
  distinctId?: string
  project: string
  why: string
  by: string
  wait: number
  yes?: boolean
  dryRun?: boolean
  json?: boolean
}
type ListFlags = DeploymentFlags & { project?: string; json?: boolean }

export function addPerson(program: Command, done: (code: ExitCode) => void): void {
  const person = program.command('person').description('delete persons, and see what was deleted')
  withDeployment(person.command('delete'))
    .argument('[uuid]', 'the person; or say --distinct-id')
    .description('erase a person: events, properties, distinct ids, dead letters')
    .option('--distinct-id <id>', 'the person that this id leads to')
    .option('--project <name>', 'its project', DEFAULT_PROJECT)
    .option('--why <text>', 'kept with the record of the deletion', '')
    .option('--by <name>', 'who it is kept under', `${userInfo().username}@${hostname()}`)
    .addOption(
      new Option('--wait <seconds>', 'how long to wait for what is on its way')
        .default(60)
        .argParser(parseCount),
    )
    .option('--yes', 'do it without asking')
    .addOption(new Option('--dry-run', 'only show what would go').conflicts('yes'))
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  headrace person delete --distinct-id anna@example.com --project shop --dry-run
  headrace person delete 0192f0c1-7d2e-5c3a-9f00-0c6d5f3c7a11 --why "ticket 4711" --yes

When it is stopped or killed, the same command goes on where it was. docs/guides/deletion.md says what goes and what stays.`,
    )
    .action(async (uuid: string | undefined, flags: DeleteFlags) => done(await runDelete(uuid, flags)))
  withDeployment(person.command('deletions'))
    .description('the record of deletions: when, by whom, why, how much')
    .option('--project <name>', 'only of this project')
    .option('--json', 'one JSON array')
    .action(async (flags: ListFlags) => done(await runList(flags)))
}

async function runDelete(text: string | undefined, flags: DeleteFlags): Promise<ExitCode> {
  const subject = subjectOf(text, flags)
  const { deletePerson, previewPerson, previewText, doneText, deletionJson } = await import(
    '../deletion/index.ts'
  )
  return withAll(flags, async (deps) => {
    const project = await readProject(deps.sql, flags.project)
    const { teamId } = project
    const { why, by } = flags
    if (!flags.yes) {
      const preview = await previewPerson(deps, { teamId, subject })
      const found = preview.persons > 0 || Object.values(preview.rows).some((rows) => rows > 0)
      if (flags.json) write(JSON.stringify({ applied: false, ...preview }))
      else write(previewText(preview))
      if (!found) return EXIT.done
      if (!(await agreed(flags))) return EXIT.finding
    }
    const order = { kind: 'person' as const, teamId, subject, by, why }
    const deletion = await deletePerson(deps, order, flags.wait * 1_000)
    write(
      flags.json
        ? JSON.stringify({ applied: true, ...deletionJson(deletion, () => project.name) })
        : doneText(deletion),
    )
    return EXIT.done
  })
}

function subjectOf(text: string | undefined, { distinctId }: DeleteFlags) {
  if ((text === undefined) === (distinctId === undefined))
    throw cliError('HR_CLI_ARGUMENT', 'say which person: its uuid, or --distinct-id <id>')
  if (distinctId !== undefined) return { distinctId }
  const uuid = canonicalUuid(text!)
  if (!uuid) throw cliError('HR_CLI_ARGUMENT', `"${text}" is no uuid; a distinct id is --distinct-id <id>`)
  return { uuid }
}

async function agreed(flags: DeleteFlags): Promise<boolean> {
  if (flags.dryRun || flags.json) return false
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    write('nothing is changed without --yes')
    return false
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const answer = await terminal.question('Delete it? [y/N] ')
  terminal.close()
  return /^y(es)?$/i.test(answer.trim())
}

async function runList(flags: ListFlags): Promise<ExitCode> {
  const { deletionJson, deletionTable, listOrders } = await import('../deletion/index.ts')
  return withState(flags, 'person', async ({ sql }) => {
    const names = new Map((await listProjects(sql)).map(({ teamId, name }) => [teamId, name]))
    const nameOf = (teamId: number) => names.get(teamId)
    const teamId = flags.project === undefined ? undefined : (await readProject(sql, flags.project)).teamId
    const deletions = await listOrders(sql, teamId)
    const table = deletionTable(deletions, nameOf)
    if (flags.json) write(JSON.stringify(deletions.map((deletion) => deletionJson(deletion, nameOf))))
    else write(deletions.length === 0 ? 'none' : formatTable(table.head, table.rows))
    return deletions.some(({ state }) => state !== 'done') ? EXIT.finding : EXIT.done
  })
}

async function withAll(
  flags: DeploymentFlags,
  work: (deps: DeletionDeps) => Promise<ExitCode>,
): Promise<ExitCode> {
  // The lock of the deletion holds one connection.
  const context = new Context(settingsOf(flags), 'person', 4)
  try {
    context.requireRunning()
    const { deployment } = await context.prepareState()
    let said = ''
    return await work({
      sql: context.sql,
      log: await context.log(),
      warehouse: await context.migratedWarehouse(),
      partitions: deployment.partitions,
      says: (sentence) => {
        if (sentence !== said) process.stderr.write(`${sentence}\n`)
        said = sentence
      },
    })
  } finally {
    await context.close()
  }
}

function write(text: string): void {
  process.stdout.write(`${text}\n`)
}
