/** `headrace project list|create|delete|policy|ingestion|usage`: projects, their tokens, their rules and what they used. */
import { type Command, Option } from 'commander'
import {
  createProject,
  listProjects,
  listUsage,
  type Project,
  policyIn,
  readPolicy,
  readProject,
  setPolicy,
} from '../catalog/index.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { addIngestion } from './ingestion.ts'
import { readJsonFile } from './json-file.ts'
import { type DeploymentFlags, withDeployment } from './options.ts'
import { addProjectDelete } from './project-delete.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'

type ProjectFlags = DeploymentFlags & { json?: boolean; token?: string }
type PolicyFlags = DeploymentFlags & { set?: string; clear?: boolean }

export function addProject(program: Command, done: (code: ExitCode) => void): void {
  const project = program
    .command('project')
    .description('list, create and delete projects, set what they let in')
  withDeployment(project.command('list'))
    .description('all projects with their tokens')
    .option('--json', 'one JSON array')
    .action(async (flags: ProjectFlags) => {
      print(await withState(flags, 'project', ({ sql }) => listProjects(sql)), flags)
      done(EXIT.done)
    })
  withDeployment(project.command('create'))
    .argument('<name>')
    .description('create a project')
    .option('--token <token>', 'its token; without, a random one')
    .option('--json', 'one JSON array with the project')
    .addHelpText('after', '\nExample:\n  headrace project create shop --token phc_shop')
    .action(async (name: string, flags: ProjectFlags) => {
      const token = flags.token === undefined ? {} : { token: flags.token }
      const created = await withState(flags, 'project', ({ sql }) => createProject(sql, { name, ...token }))
      print([created], flags)
      done(EXIT.done)
    })
  withDeployment(project.command('policy'))
    .argument('<name>')
    .description("show a project's policy as JSON, replace it, or remove it; capture obeys within 5 seconds")
    .addOption(new Option('--set <file>', 'replace it by the JSON of this file; - is standard input'))
    .addOption(new Option('--clear', 'remove it').conflicts('set'))
    .addHelpText(
      'after',
      `
Examples:
  headrace project policy shop
  echo '{"events_per_month": 1000000}' | headrace project policy shop --set -
  headrace project policy shop --clear

docs/guides/policies.md says what a policy may hold.`,
    )
    .action(async (name: string, flags: PolicyFlags) => {
      const wanted = flags.set === undefined ? undefined : readPolicy(await readJsonFile('--set', flags.set))
      const policy = await withState(flags, 'project', async ({ sql }) => {
        if (wanted || flags.clear) await setPolicy(sql, name, wanted)
        return policyIn((await readProject(sql, name)).settings)
      })
      process.stdout.write(`${JSON.stringify(policy ?? {}, null, 2)}\n`)
      done(EXIT.done)
    })
  addIngestion(project, done)
  addProjectDelete(project, done)
  withDeployment(project.command('usage'))
    .description('events of each project by month (UTC): stored, and refused singly')
    .option('--json', 'one JSON array')
    .action(async (flags: ProjectFlags) => {
      const rows = await withState(flags, 'project', ({ sql }) => listUsage(sql))
      const text = flags.json
        ? JSON.stringify(rows.map(({ teamId, ...row }) => ({ team_id: teamId, ...row })))
        : formatTable(
            ['MONTH', 'TEAM', 'NAME', 'STORED', 'REFUSED'],
            rows.map((row) => [
              row.month,
              String(row.teamId),
              row.name,
              String(row.stored),
              String(row.refused),
            ]),
          )
      process.stdout.write(`${text}\n`)
      done(EXIT.done)
    })
}

function print(projects: Project[], flags: ProjectFlags): void {
  const text =
    flags.json === true
      ? JSON.stringify(
          projects.map(({ teamId, name, token, state }) => ({
            team_id: teamId,
            name,
            token,
            ...(state !== 'open' && { state }),
          })),
        )
      : formatTable(
          ['TEAM', 'NAME', 'TOKEN'],
          projects.map(({ teamId, name, token, state }) => [
            String(teamId),
            name,
            state === 'open' ? token : `${token} (refused: it is being deleted)`,
          ]),
        )
  process.stdout.write(`${text}\n`)
}
