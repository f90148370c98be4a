/** `headrace project delete|deletions`: a project goes with all that it has. The work is `src/deletion/`. */
import type { Command } from 'commander'
import { readProject } from '../catalog/index.ts'
import { addDeletions, type DeleteFlags, refusal, withDelete } from './deletion.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { withRows } from './row-work.ts'
import { write } from './write.ts'

export function addProjectDelete(project: Command, done: (code: ExitCode) => void): void {
  withDelete(project.command('delete'))
    .argument('<name>')
    .description('erase a project: its events, persons, groups, dead letters, definitions, and its token')
    .addHelpText(
      'after',
      `
Examples:
  headrace project delete shop --dry-run
  headrace project delete shop --why "contract ended" --yes

When it is stopped or killed, the same command goes on where it was. docs/guides/deletion.md says what goes and what stays.`,
    )
    .action(async (name: string, flags: DeleteFlags) => done(await runDelete(name, flags)))
  addDeletions(project, 'project', done)
}

async function runDelete(name: string, flags: DeleteFlags): Promise<ExitCode> {
  const { deleteProject, previewProject, projectPreviewText, projectDoneText, deletionJson } = await import(
    '../deletion/index.ts'
  )
  return withRows(flags, 'project', async (deps) => {
    const { teamId } = await readProject(deps.sql, name)
    const order = { teamId, kind: 'project', subject: { project: name } } as const
    const refused = await refusal(deps.sql, order, flags, async () => {
      const preview = await previewProject(deps, teamId)
      return { text: projectPreviewText(name, preview), json: preview, found: true }
    })
    if (refused !== undefined) return refused
    const { why, by } = flags
    const deletion = await deleteProject(deps, { teamId, name, by, why }, flags.wait * 1_000)
    write(
      flags.json
        ? JSON.stringify({ applied: true, ...deletionJson(deletion, () => name) })
        : projectDoneText(name, deletion),
    )
    return EXIT.done
  })
}
