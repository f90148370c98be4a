/** What `headrace person delete|deletions` and `headrace project delete|deletions` have in common. */
import { hostname, userInfo } from 'node:os'
import { type Command, Option } from 'commander'
import { listProjects, readProject, type Sql } from '../catalog/index.ts'
import type { Deletion, Order } from '../deletion/index.ts'
import { confirmed } from './confirmed.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'
import { write } from './write.ts'

export type DeleteFlags = DeploymentFlags & {
  why: string
  by: string
  wait: number
  yes?: boolean
  dryRun?: boolean
  json?: boolean
}
type ListFlags = DeploymentFlags & { project?: string; json?: boolean }

export function withDelete(command: Command): Command {
  return withDeployment(command)
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
}

type Preview = { text: string; json: object; found: boolean }

/**
 * Without --yes: shows the order that is open, or what would go, and asks. Gives the exit code when nothing is to be done;
 * undefined to go on. What a deletion that was cut off takes is on record, and no more to be looked for.
 */
export async function refusal(
  sql: Sql,
  order: Pick<Order, 'teamId' | 'kind' | 'subject'>,
  flags: DeleteFlags,
  preview: () => Promise<Preview>,
): Promise<ExitCode | undefined> {
  if (flags.yes) return undefined
  const { deletionJson, findOrder, openText } = await import('../deletion/index.ts')
  const open = await findOrder(sql, order)
  const ends = open && open.state !== 'asked'
  const { text, json, found } = ends ? { text: '', json: {}, found: true } : await preview()
  if (flags.json)
    write(
      JSON.stringify({ applied: false, ...json, ...(open && { open: deletionJson(open, () => undefined) }) }),
    )
  else write([...(open ? [openText(open)] : []), ...(text === '' ? [] : [text])].join('\n'))
  if (!found) return flags.dryRun ? EXIT.done : EXIT.finding
  if (flags.dryRun || flags.json || !(await confirmed(open ? 'Go on with it?' : 'Delete it?')))
    return EXIT.finding
  return undefined
}

/** `deletions`: the record of one kind. */
export function addDeletions(parent: Command, kind: Deletion['kind'], done: (code: ExitCode) => void): void {
  const command = withDeployment(parent.command('deletions')).description(
    `the record of deletions of ${kind}s: when, by whom, why, how much`,
  )
  if (kind === 'person') command.option('--project <name>', 'only of this project')
  command
    .option('--json', 'one JSON array')
    .action(async (flags: ListFlags) => done(await runList(kind, flags)))
}

async function runList(kind: Deletion['kind'], flags: ListFlags): Promise<ExitCode> {
  const { deletionJson, deletionTable, listOrders } = await import('../deletion/index.ts')
  return withState(flags, kind, async ({ sql }) => {
    const names = new Map((await listProjects(sql)).map(({ teamId, name }) => [teamId, name]))
    const nameOf = (teamId: number) => names.get(teamId)
    const teamId = flags.project === undefined ? undefined : (await readProject(sql, flags.project)).teamId
    const deletions = await listOrders(sql, kind, teamId)
    const table = deletionTable(deletions, nameOf)
    if (flags.json) write(JSON.stringify(deletions.map((deletion) => deletionJson(deletion, nameOf))))
    else write(deletions.length === 0 ? 'none' : formatTable(table.head, table.rows))
    return deletions.some(({ state }) => state !== 'done') ? EXIT.finding : EXIT.done
  })
}
