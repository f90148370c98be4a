/** `headrace person delete|deletions`: what is known of a person goes. The work is `src/deletion/`. */
import type { Command } from 'commander'
import { DEFAULT_PROJECT, readProject } from '../catalog/index.ts'
import { canonicalUuid } from '../event/index.ts'
import { addDeletions, type DeleteFlags, refusal, withDelete } from './deletion.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { withRows } from './row-work.ts'
import { write } from './write.ts'

type PersonFlags = DeleteFlags & { distinctId?: string; project: string }

export function addPerson(program: Command, done: (code: ExitCode) => void): void {
  const person = program.command('person').description('delete persons, and see what was deleted')
  withDelete(person.command('delete'))
    .argument('[uuid]', 'the person; or say --distinct-id')
    .description('erase a person: events, properties, distinct ids, dead letters')
    .option('--distinct-id <id>', 'the person that this id leads to')
    .option('--project <name>', 'its project', DEFAULT_PROJECT)
    .addHelpText(
      'after',
      `
Examples:
  headrace person delete --distinct-id anna@example.com --project shop --dry-run
  headrace person delete 0192f0c1-7d2e-5c3a-9f00-0c6d5f3c7a11 --why "ticket 4711" --yes

When it is stopped or killed, the same command goes on where it was, and ends with 1: what came meanwhile stays.
docs/guides/deletion.md says what goes and what stays.`,
    )
    .action(async (uuid: string | undefined, flags: PersonFlags) => done(await runDelete(uuid, flags)))
  addDeletions(person, 'person', done)
}

async function runDelete(text: string | undefined, flags: PersonFlags): Promise<ExitCode> {
  const subject = subjectOf(text, flags)
  const { deletePerson, previewPerson, previewText, doneText, deletionJson, isFinding } = await import(
    '../deletion/index.ts'
  )
  return withRows(flags, 'person', async (deps) => {
    const { teamId, name } = await readProject(deps.sql, flags.project)
    const refused = await refusal(deps.sql, { teamId, kind: 'person', subject }, flags, async () => {
      const preview = await previewPerson(deps, { teamId, subject })
      const found = preview.persons > 0 || Object.values(preview.rows).some((rows) => rows > 0)
      return { text: previewText(preview), json: preview, found }
    })
    if (refused !== undefined) return refused
    const { why, by } = flags
    const deletion = await deletePerson(deps, { teamId, subject, by, why }, flags.wait * 1_000)
    const { resumed } = deletion
    write(
      flags.json
        ? JSON.stringify({ applied: true, resumed, ...deletionJson(deletion, () => name) })
        : doneText(deletion),
    )
    return isFinding(deletion) ? EXIT.finding : EXIT.done
  })
}

function subjectOf(text: string | undefined, { distinctId }: PersonFlags) {
  if ((text === undefined) === (distinctId === undefined))
    throw cliError('HR_CLI_ARGUMENT', 'say which person: its uuid, or --distinct-id <id>')
  if (distinctId === '')
    throw cliError('HR_CLI_ARGUMENT', '--distinct-id is empty; rows without an id are nobody’s')
  if (distinctId !== undefined) return { distinctId }
  const uuid = canonicalUuid(text!)
  if (!uuid) throw cliError('HR_CLI_ARGUMENT', `"${text}" is no uuid; a distinct id is --distinct-id <id>`)
  return { uuid }
}
