/** `headrace deliveries`: what became of events at destinations, and sending failed ones again. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { readProject } from '../catalog/index.ts'
import { canonicalUuid } from '../event/index.ts'
import type { Context } from './context.ts'
import { secretFile } from './deliver.ts'
import { withProject } from './destination.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'
import { parseTime } from './time.ts'

type Flags = DeploymentFlags & { project: string; json?: boolean }
type ListFlags = Flags & { destination?: string; state?: string; since?: number; limit: number }

type Row = {
  finished_at: string
  destination_id: string
  uuid: string
  event: string
  distinct_id: string
  state: string
  attempts: number
  status: number
  response: string
  source: string
}

const STATES = ['delivered', 'failed', 'expired', 'waiting']
const FIELDS = `toString(finished_at) AS finished_at, destination_id, uuid, event, distinct_id, state, attempts, status,
  response, concat(toString(_log_id), '/', toString(_partition), '/', toString(_offset), '/', toString(_sub)) AS source`

export function addDeliveries(program: Command, done: (code: ExitCode) => void): void {
  const verb = program
    .command('deliveries')
    .description('what became of events at destinations')
    .addHelpText(
      'after',
      `
Examples:
  headrace deliveries list --destination crm --state failed --since 2d
  headrace deliveries show 0190b1a2-7c3d-7e4f-8a5b-6c7d8e9f0a1b
  headrace deliveries audit
  headrace deliveries retry crm --since 2d`,
    )
  withProject(verb.command('list'))
    .description('the newest')
    .option('--destination <name>', 'only of it')
    .addOption(new Option('--state <state>', 'only in it').choices(STATES))
    .option('--since <time>', 'of events received since: a date, or 30m, 12h, 7d ago', parseTime)
    .option('--limit <count>', 'at most', parseCount, 20)
    .action(async (flags: ListFlags) =>
      done(await withState(flags, 'deliveries', (context) => list(context, flags))),
    )
  withProject(verb.command('show'))
    .argument('<uuid>', 'of the event')
    .description('what became of one event at each destination')
    .action(async (uuid: string, flags: Flags) =>
      done(await withState(flags, 'deliveries', (context) => show(context, uuid, flags))),
    )
  withProject(verb.command('audit'))
    .description(
      'compare what each destination passed with what ClickHouse has; exit code 1 when it does not agree',
    )
    .action(async (flags: Flags) =>
      done(await withState(flags, 'deliveries', (context) => audit(context, flags))),
    )
  withProject(verb.command('retry'))
    .argument('<destination>', 'its name or id')
    .description('send those that failed once more')
    .requiredOption('--since <time>', 'of events received since: a date, or 30m, 12h, 7d ago', parseTime)
    .action(async (name: string, flags: Flags & { since: number }) =>
      done(await withState(flags, 'deliveries', (context) => retry(context, name, flags))),
    )
}

async function rooms(context: Context) {
  const deliver = await import('../deliver/index.ts')
  const { settings, sql } = context
  return {
    deliver,
    store: new deliver.DestinationStore(sql, deliver.openSecretBox(settings.secretKey, secretFile(settings))),
  }
}

async function list(context: Context, flags: ListFlags): Promise<ExitCode> {
  const { teamId } = await readProject(context.sql, flags.project)
  const { deliver, store } = await rooms(context)
  const destination = flags.destination === undefined ? undefined : await store.get(teamId, flags.destination)
  if (flags.state === 'waiting') {
    if (!destination) throw cliError('HR_CLI_ARGUMENT', '--state waiting needs --destination')
    const waiting = await deliver.listWaiting(context.sql, destination.id, flags.limit)
    const cells = waiting.map((one) => [
      one.next_at.toISOString(),
      String(one.attempts),
      String(one.status),
      one.source,
      one.response.slice(0, 60),
    ])
    print(flags, waiting, ['NEXT', 'ATTEMPTS', 'STATUS', 'SOURCE', 'ANSWER'], cells)
    return EXIT.done
  }
  const warehouse = await context.warehouse()
  const found = await warehouse.query<Row>(
    `SELECT ${FIELDS} FROM deliveries FINAL
     WHERE team_id = {teamId:Int64} AND ({id:String} = '' OR toString(destination_id) = {id:String})
       AND ({state:String} = '' OR state = {state:String}) AND timestamp >= fromUnixTimestamp64Milli({sinceMs:Int64})
     ORDER BY finished_at DESC LIMIT {limit:UInt32}`,
    {
      teamId,
      id: destination?.id ?? '',
      state: flags.state ?? '',
      sinceMs: flags.since ?? 0,
      limit: flags.limit,
    },
  )
  const names = new Map((await store.list(teamId)).map(({ id, name }) => [id, name]))
  print(
    flags,
    found,
    HEAD,
    found.map((row) => cellsOf(row, names)),
  )
  return EXIT.done
}

const HEAD = ['ENDED', 'DESTINATION', 'STATE', 'ATTEMPTS', 'STATUS', 'EVENT', 'UUID', 'ANSWER']

function cellsOf(row: Row, names: ReadonlyMap<string, string>): string[] {
  const { finished_at, destination_id, state, attempts, status, event, uuid, response } = row
  const name = names.get(destination_id) ?? destination_id
  return [finished_at, name, state, String(attempts), String(status), event, uuid, response.slice(0, 60)]
}

async function show(context: Context, text: string, flags: Flags): Promise<ExitCode> {
  const uuid = canonicalUuid(text)
  if (!uuid) throw cliError('HR_CLI_ARGUMENT', `"${text}" is not a uuid`)
  const { teamId } = await readProject(context.sql, flags.project)
  const { store } = await rooms(context)
  const warehouse = await context.warehouse()
  const found = await warehouse.query<Row>(
    `SELECT ${FIELDS} FROM deliveries FINAL WHERE team_id = {teamId:Int64} AND uuid = {uuid:UUID} ORDER BY finished_at`,
    { teamId, uuid },
  )
  const names = new Map((await store.list(teamId)).map(({ id, name }) => [id, name]))
  print(
    flags,
    found,
    HEAD,
    found.map((row) => cellsOf(row, names)),
  )
  return found.length > 0 ? EXIT.done : EXIT.finding
}

async function audit(context: Context, flags: Flags): Promise<ExitCode> {
  const { teamId } = await readProject(context.sql, flags.project)
  const { deliver, store } = await rooms(context)
  const deps = { sql: context.sql, warehouse: await context.warehouse() }
  const audits = await deliver.auditDeliveries(deps, await store.list(teamId))
  const findings = audits.flatMap(deliver.findingsOf)
  const cells = audits.map(({ name, seen, compared, ended, rows }) => [
    name,
    String(seen),
    `${compared.seen} = ${compared.stored}`,
    String(compared.partitions),
    String(ended),
    String(rows),
  ])
  print(flags, audits, ['NAME', 'SEEN', 'COMPARED', 'PARTITIONS', 'ENDED', 'ROWS'], cells)
  for (const finding of findings) process.stderr.write(`${finding}\n`)
  return findings.length === 0 ? EXIT.done : EXIT.finding
}

async function retry(context: Context, name: string, flags: Flags & { since: number }): Promise<ExitCode> {
  const { teamId } = await readProject(context.sql, flags.project)
  const { deliver, store } = await rooms(context)
  const destination = await store.get(teamId, name)
  const { logId } = await deliver.eventsTopic(await context.log())
  const deps = { sql: context.sql, warehouse: await context.warehouse() }
  const put = await deliver.sendAgain(deps, destination, logId, flags.since)
  process.stdout.write(
    flags.json ? `${JSON.stringify({ events: put })}\n` : `${put} events will be sent again\n`,
  )
  return EXIT.done
}

function print(flags: Flags, rows: readonly unknown[], head: string[], cells: string[][]): void {
  const text = rows.length === 0 ? 'none' : formatTable(head, cells)
  process.stdout.write(`${flags.json ? JSON.stringify(rows) : text}\n`)
}
