/** `headrace destination`: where events are sent on to. The work is `src/deliver/`. */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { DEFAULT_PROJECT, type Project, readProject } from '../catalog/index.ts'
import type { Destination, DestinationReport } from '../deliver/index.ts'
import type { Context } from './context.ts'
import { secretFile } from './deliver.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { readJsonFile } from './json-file.ts'
import { type DeploymentFlags, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'
import { parseTime } from './time.ts'

type Flags = DeploymentFlags & { project: string; json?: boolean }
type DescribeFlags = Flags & {
  kind: string
  config?: string
  url?: string
  event?: string[]
  option?: string[]
  secret?: string[]
  paused?: boolean
  from?: number
}
type ReplayFlags = Flags & { from: number; dryRun?: boolean }
type Done = (code: ExitCode) => void
type Rooms = typeof import('../deliver/index.ts')
type Deps = {
  rooms: Rooms
  context: Context
  store: InstanceType<Rooms['DestinationStore']>
  project: Project
}

export function addDestination(program: Command, done: Done): void {
  const verb = program
    .command('destination')
    .description('send events on to others: webhooks and products')
    .addHelpText(
      'after',
      `
Examples:
  headrace destination create crm --url https://crm.example.com/hook --event "order paid"
  headrace destination create slack --kind slack --secret url=env:SLACK_URL --event "order paid"
  headrace destination show crm
  headrace destination replay crm --from 7d

docs/guides/destinations.md says what a description may hold.`,
    )
  withDescription(withProject(verb.command('create')))
    .argument('<name>')
    .description('create one; it gets the events from now on')
    .option('--kind <kind>', 'what it is', 'webhook')
    .option('--paused', 'do not send before `destination resume`')
    .action((name: string, flags: DescribeFlags) => run(flags, done, (deps) => create(deps, name, flags)))
  withProject(verb.command('list'))
    .description('all of a project, and how each is doing')
    .action((flags: Flags) => run(flags, done, (deps) => list(deps, flags)))
  withProject(verb.command('show'))
    .argument('<name>', 'or its id')
    .description('its description without secrets, how far it is, and what became of its events')
    .action((name: string, flags: Flags) => run(flags, done, (deps) => show(deps, name, flags)))
  withDescription(withProject(verb.command('update')))
    .argument('<name>', 'or its id')
    .description('change what is given, keep the rest; events from now on go by the new description')
    .action((name: string, flags: DescribeFlags) => run(flags, done, (deps) => update(deps, name, flags)))
  for (const [name, state, says] of [
    ['pause', 'paused', 'send nothing until `resume`; nothing is lost'],
    ['resume', 'active', 'go on where it was paused'],
  ] as const) {
    withProject(verb.command(name))
      .argument('<name>', 'or its id')
      .description(says)
      .action((which: string, flags: Flags) =>
        run(flags, done, async ({ store, project }) => {
          const { id } = await store.get(project.teamId, which)
          await store.setState(id, state, state === 'paused' ? 'by hand' : '')
          return EXIT.done
        }),
      )
  }
  withProject(verb.command('test'))
    .argument('<name>', 'or its id')
    .description('send one made-up event now, and say what the receiver answered')
    .action((name: string, flags: Flags) => run(flags, done, (deps) => test(deps, name, flags)))
  withProject(verb.command('replay'))
    .argument('<name>', 'or its id')
    .description('send what came in since a time once more, under the same ids')
    .requiredOption('--from <time>', 'a date, or 30m, 12h, 7d ago', parseTime)
    .option('--dry-run', 'only count')
    .action((name: string, flags: ReplayFlags) => run(flags, done, (deps) => replay(deps, name, flags)))
  withProject(verb.command('delete'))
    .argument('<name>', 'or its id')
    .description('remove it, with what waits to be tried again')
    .option('--yes', 'do it')
    .action((name: string, flags: Flags & { yes?: boolean }) =>
      run(flags, done, async ({ store, project }) => {
        const { id } = await store.get(project.teamId, name)
        if (flags.yes !== true)
          throw cliError('HR_CLI_ARGUMENT', `nothing was deleted; --yes deletes ${name}`)
        await store.delete(id)
        return EXIT.done
      }),
    )
}

export function withProject(command: Command): Command {
  return withDeployment(command)
    .option('--project <name>', 'of this project', DEFAULT_PROJECT)
    .option('--json', 'JSON')
}

function withDescription(command: Command): Command {
  const more = (value: string, before: string[] = []) => [...before, value]
  return command
    .option('--config <file>', 'its description as JSON; - is standard input')
    .option('--url <url>', 'short for --option url=…')
    .option('--event <name>', 'only events of this name; may be given several times', more)
    .option('--option <key=value>', 'an option of its kind; the value is JSON or a text', more)
    .option('--secret <name=value>', 'a secret: the value, env:NAME or @file', more)
    .option('--from <time>', 'of a new one: begin at this time in the past', parseTime)
}

async function run(flags: Flags, done: Done, work: (deps: Deps) => Promise<ExitCode>): Promise<void> {
  done(
    await withState(flags, 'destination', async (context) => {
      const rooms = await import('../deliver/index.ts')
      const { settings } = context
      const box = rooms.openSecretBox(settings.secretKey, secretFile(settings))
      const store = new rooms.DestinationStore(context.sql, box)
      return work({ rooms, context, store, project: await readProject(context.sql, flags.project) })
    }),
  )
}

async function create(deps: Deps, name: string, flags: DescribeFlags): Promise<ExitCode> {
  const { rooms, context, store, project } = deps
  const kind = rooms.targetKind(flags.kind)
  const secrets = { ...readSecrets(flags.secret) }
  const described = await readDescription(flags, { options: { ...kind.defaults } })
  const made: string[] = []
  for (const [secret, make] of Object.entries(kind.madeSecrets ?? {})) {
    if (secrets[secret] !== undefined) continue
    secrets[secret] = make()
    made.push(secret)
  }
  const config = rooms.readConfig(described)
  rooms.checkTarget({ kind: flags.kind, config, secrets })
  const topic = await rooms.eventsTopic(await context.log())
  const wanted = {
    teamId: project.teamId,
    name: rooms.readName(name),
    kind: flags.kind,
    config,
    secrets,
    paused: flags.paused === true,
  }
  const starts = flags.from === undefined ? undefined : await beginnings(deps, flags.from)
  const destination = await store.create(
    wanted,
    topic,
    starts?.map(({ until: _, ...start }) => start),
  )
  if (flags.json) write(JSON.stringify(plain(rooms, destination)))
  else write(`${name} is destination ${destination.id}`)
  for (const secret of made) write(`its secret "${secret}", shown this once: ${secrets[secret]}`)
  return EXIT.done
}

async function beginnings({ rooms, context }: Deps, fromMs: number) {
  const log = await context.log()
  const deps = { log, sql: context.sql, warehouse: await context.warehouse() }
  return rooms.startsAt(deps, await rooms.eventsTopic(log), fromMs)
}

async function list({ rooms, context, store, project }: Deps, flags: Flags): Promise<ExitCode> {
  const rows = await Promise.all(
    (await store.list(project.teamId)).map(async (one) => ({
      one,
      report: await rooms.reportOf(context.sql, one.id),
    })),
  )
  if (flags.json) {
    write(JSON.stringify(rows.map(({ one, report }) => ({ ...plain(rooms, one), report }))))
    return EXIT.done
  }
  const head = ['NAME', 'KIND', 'STATE', 'DELIVERED', 'FILTERED', 'WAITING', 'FAILED', 'DETACHED']
  write(
    formatTable(
      head,
      rows.map(({ one, report }) => [
        one.name,
        one.kind,
        one.replayOf && report.finished === report.partitions ? 'finished' : one.state,
        String(report.delivered),
        String(report.filtered),
        String(report.waiting),
        String(report.failed),
        `${report.detached} of ${report.partitions}`,
      ]),
    ),
  )
  return EXIT.done
}

async function show({ rooms, context, store, project }: Deps, name: string, flags: Flags): Promise<ExitCode> {
  const destination = await store.get(project.teamId, name)
  const report = await rooms.reportOf(context.sql, destination.id)
  const shown = { ...plain(rooms, destination), report }
  write(flags.json ? JSON.stringify(shown) : `${JSON.stringify(shown, undefined, 2)}\n\n${verdict(report)}`)
  return report.unaccounted === 0 ? EXIT.done : EXIT.finding
}

function verdict({ seen, unaccounted, waiting, detached, partitions }: DestinationReport): string {
  if (unaccounted !== 0) return `${unaccounted} of ${seen} events are in no state, or in more than one`
  const where = detached === 0 ? 'up to date' : `behind in ${detached} of ${partitions} partitions`
  return `${seen} events, each in one state; ${waiting} to be tried again; ${where}`
}

async function update(
  { rooms, store, project }: Deps,
  name: string,
  flags: DescribeFlags,
): Promise<ExitCode> {
  const destination = await store.get(project.teamId, name)
  const config = rooms.readConfig(await readDescription(flags, rooms.showConfig(destination.config)))
  const secrets = { ...destination.secrets, ...readSecrets(flags.secret) }
  rooms.checkTarget({ kind: destination.kind, config, secrets })
  await store.update(destination, { config, secrets })
  return EXIT.done
}

async function test({ rooms, context, store, project }: Deps, name: string, flags: Flags): Promise<ExitCode> {
  const destination = await store.get(project.teamId, name)
  const { kind, status, response } = await rooms.tryDestination(destination, context.settings.deliverAllow)
  write(
    flags.json ? JSON.stringify({ kind, status, response }) : `${kind}: ${status || 'no answer'} ${response}`,
  )
  return kind === 'delivered' ? EXIT.done : EXIT.finding
}

async function replay(deps: Deps, name: string, flags: ReplayFlags): Promise<ExitCode> {
  const { rooms, context, store, project } = deps
  const original = await store.get(project.teamId, name)
  const count = await rooms.countReplay(await context.warehouse(), original, flags.from)
  const says = `${count.named} events since ${new Date(flags.from).toISOString()} have a name that ${name} wants, of ${count.events}; conditions are asked when they are sent`
  if (flags.dryRun) {
    write(flags.json ? JSON.stringify(count) : says)
    return EXIT.done
  }
  const topic = await rooms.eventsTopic(await context.log())
  const replayName = `${original.name} replay ${new Date().toISOString().slice(0, 19).replaceAll(':', '.')}`
  const { teamId, kind, config, secrets, id: replayOf } = original
  const made = await store.create(
    { teamId, name: replayName, kind, config, secrets, replayOf },
    topic,
    await beginnings(deps, flags.from),
  )
  write(flags.json ? JSON.stringify(plain(rooms, made)) : `${says}\n${made.name} is under way as ${made.id}`)
  return EXIT.done
}

/** Without secrets. */
function plain(rooms: Rooms, { id, name, kind, state, says, replayOf, config, secrets }: Destination) {
  const masked = Object.entries(secrets).map(([key, value]) => [key, rooms.maskSecret(value)])
  return {
    id,
    name,
    kind,
    state,
    ...(says === '' ? {} : { says }),
    ...(replayOf ? { replay_of: replayOf } : {}),
    config: rooms.showConfig(config),
    secrets: Object.fromEntries(masked),
  }
}

async function readDescription(
  flags: DescribeFlags,
  before: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const given = flags.config === undefined ? {} : await readJsonFile('--config', flags.config)
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw cliError('HR_CLI_ARGUMENT', '--config must hold a JSON object')
  const base = { ...before, ...(given as Record<string, unknown>) }
  const options: Record<string, unknown> = {
    ...(before.options as Record<string, unknown>),
    ...((given as { options?: Record<string, unknown> }).options ?? {}),
  }
  if (flags.url !== undefined) options.url = flags.url
  for (const text of flags.option ?? []) {
    const [key, value] = split('--option', text)
    options[key] = parseValue(value)
  }
  const filter = flags.event ? { ...(base.filter as object | undefined), events: flags.event } : base.filter
  return { ...base, ...(filter ? { filter } : {}), options }
}

function readSecrets(texts: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [name, value] = split('--secret', text)
      if (value.startsWith('@')) return [name, readFileSync(value.slice(1), 'utf8').trim()]
      if (!value.startsWith('env:')) return [name, value]
      const found = process.env[value.slice(4)]
      if (found === undefined)
        throw cliError('HR_CLI_ARGUMENT', `--secret ${name}: there is no variable ${value.slice(4)}`)
      return [name, found]
    }),
  )
}

function split(flag: string, text: string): [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw cliError('HR_CLI_ARGUMENT', `${flag} is "${text}"; name=value is needed`)
  return [text.slice(0, at), text.slice(at + 1)]
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function write(text: string): void {
  process.stdout.write(`${text}\n`)
}
