/** `headrace project list|create`: projects and their tokens. */
import type { Command } from 'commander'
import { createProject, listProjects, type Project } from '../catalog/index.ts'
import { Context } from './context.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'
import { formatTable } from './table.ts'

type ProjectFlags = DeploymentFlags & { json?: boolean; token?: string }

export function addProject(program: Command, done: (code: ExitCode) => void): void {
  const project = program.command('project').description('list and create projects')
  withDeployment(project.command('list'))
    .description('all projects with their tokens')
    .option('--json', 'one JSON array')
    .action(async (flags: ProjectFlags) =>
      done(await withState(flags, (context) => listProjects(context.sql))),
    )
  withDeployment(project.command('create'))
    .argument('<name>')
    .description('create a project')
    .option('--token <token>', 'its token; without, a random one')
    .option('--json', 'one JSON array with the project')
    .addHelpText('after', '\nExample:\n  headrace project create shop --token phc_shop')
    .action(async (name: string, flags: ProjectFlags) => {
      const token = flags.token === undefined ? {} : { token: flags.token }
      done(await withState(flags, async (context) => [await createProject(context.sql, { name, ...token })]))
    })
}

async function withState(
  flags: ProjectFlags,
  work: (context: Context) => Promise<Project[]>,
): Promise<ExitCode> {
  const context = new Context(settingsOf(flags), 'project', 1)
  try {
    context.requireRunning()
    await context.prepareState()
    const projects = await work(context)
    const text =
      flags.json === true
        ? JSON.stringify(projects.map(({ teamId, name, token }) => ({ team_id: teamId, name, token })))
        : formatTable(
            ['TEAM', 'NAME', 'TOKEN'],
            projects.map(({ teamId, name, token }) => [String(teamId), name, token]),
          )
    process.stdout.write(`${text}\n`)
    return EXIT.done
  } finally {
    await context.close()
  }
}
