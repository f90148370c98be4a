/** `headrace repair`: what stands still for good, and the ways out. The work is `src/repair/`. */
import { type Command, Option } from 'commander'
import { RAW_TOPICS } from '../event/index.ts'
import { createLogger } from '../observe/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { ProgressBar } from './progress-bar.ts'

type RepairFlags = DeploymentFlags & { json?: boolean; yes?: boolean }
type GapFlags = RepairFlags & { partition?: number; all?: boolean; acceptLoss?: boolean }
type RowsFlags = RepairFlags & {
  dryRun?: boolean
  topic?: string
  partition?: number
  from?: number
  to?: number
  deleteUnexpected?: boolean
  acceptLoss?: boolean
  wait: number
}

const JSON_HELP = 'one JSON object'
const YES_HELP = 'do it; without it nothing is changed'

export function addRepair(program: Command, done: (code: ExitCode) => void): void {
  const repair = withDeployment(program.command('repair'))
    .description('show what a halted ingest or load needs; the verbs below do it')
    .option('--json', JSON_HELP)
    .addHelpText(
      'after',
      `
Examples:
  headrace repair
  headrace repair gap --all --accept-loss
  headrace repair gap --partition 3 --accept-loss --yes
  headrace repair rewind --yes
  headrace repair rows
  headrace repair rows --partition 3 --from 120000 --to 130000 --yes

Exit code 1 when something is to be repaired (docs/runbooks/ingest-halted.md).`,
    )
    .action(async (flags: RepairFlags) => done(await runInspect(flags)))
  withDeployment(repair.command('gap'))
    .description('give up raw records that nobody can read any more, and say so in the ledger')
    .addOption(new Option('--partition <number>', 'only this partition number').argParser(parsePartition))
    .addOption(new Option('--all', 'every partition that has a gap').conflicts('partition'))
    .option('--accept-loss', 'needed: acknowledged events are lost by this')
    .option('--yes', YES_HELP)
    .option('--json', JSON_HELP)
    // Flags that `repair` has, too, are with it, wherever they stand.
    .action(async (_, command: Command) => done(await runGap(command.optsWithGlobals<GapFlags>())))
  withDeployment(repair.command('rewind'))
    .description('go on with a Postgres that was restored to an earlier state')
    .option('--yes', YES_HELP)
    .option('--json', JSON_HELP)
    .action(async (_, command: Command) => done(await runRewind(command.optsWithGlobals<RepairFlags>())))
  withDeployment(repair.command('rows'))
    .description('make ClickHouse agree with the receipts: insert rows that it lacks, merge copies')
    .addOption(new Option('--topic <topic>', 'only this raw topic').choices([...RAW_TOPICS]))
    .addOption(new Option('--partition <number>', 'only this partition number').argParser(parsePartition))
    .addOption(new Option('--from <offset>', 'only raw offsets from here').argParser(parseOffset))
    .addOption(new Option('--to <offset>', 'only raw offsets below this').argParser(parseOffset))
    .option('--delete-unexpected', 'delete rows that no receipt knows of; without it they are named')
    .option('--accept-loss', 'record as lost what ClickHouse lacks and no log holds any more')
    .addOption(
      new Option('--wait <seconds>', 'how long to wait for rows that are on their way')
        .default(10)
        .argParser(parseCount),
    )
    .option('--yes', YES_HELP)
    .addOption(
      new Option('--dry-run', 'only show what would be done; so it is without --yes').conflicts('yes'),
    )
    .option('--json', JSON_HELP)
    .action(async (_, command: Command) => done(await runRows(command.optsWithGlobals<RowsFlags>())))
}

async function runInspect(flags: RepairFlags): Promise<ExitCode> {
  const { formatInspection, inspect, isOutOfStep } = await import('../repair/index.ts')
  return withAll(flags, async (deps) => {
    const found = await inspect(deps)
    print(flags, found, formatInspection(found))
    const outOfStep = found.rewind !== undefined && isOutOfStep(found.rewind)
    return found.gaps.length + found.refusals.length > 0 || outOfStep ? EXIT.finding : EXIT.done
  })
}

async function runGap(flags: GapFlags): Promise<ExitCode> {
  if (flags.partition === undefined && !flags.all)
    throw cliError('HR_CLI_ARGUMENT', 'say which gap: --partition <number>, or --all')
  if (!flags.acceptLoss) {
    throw cliError(
      'HR_CLI_ARGUMENT',
      'acknowledged events are lost by this; `headrace repair` shows which, and --accept-loss says that you accept it',
    )
  }
  const { formatGaps, repairGaps } = await import('../repair/index.ts')
  const which = flags.partition === undefined ? {} : { partition: flags.partition }
  return withAll(flags, async (deps) => {
    const repairs = await repairGaps(deps, { ...which, apply: flags.yes === true })
    print(flags, { applied: flags.yes === true, repairs }, formatGaps(repairs, flags.yes === true))
    return repairs.length > 0 && !flags.yes ? EXIT.finding : EXIT.done
  })
}

async function runRewind(flags: RepairFlags): Promise<ExitCode> {
  const { formatRewind, isOutOfStep, rewind } = await import('../repair/index.ts')
  return withAll(flags, async (deps) => {
    const done = await rewind(deps, { apply: flags.yes === true })
    print(flags, { applied: flags.yes === true, ...done }, formatRewind(done, flags.yes === true))
    return isOutOfStep(done) && !flags.yes ? EXIT.finding : EXIT.done
  })
}

async function runRows(flags: RowsFlags): Promise<ExitCode> {
  const { formatRows, repairRows } = await import('../repair/index.ts')
  const { ProjectCatalog } = await import('../catalog/index.ts')
  const { topic, partition, from, to, deleteUnexpected, acceptLoss } = flags
  if (from !== undefined && to !== undefined && to <= from)
    throw cliError('HR_CLI_ARGUMENT', `--to ${to} must be above --from ${from}`)
  const bar = new ProgressBar(process.stderr)
  const work = async (deps: Deps) => {
    const projects = new ProjectCatalog(deps.sql)
    try {
      const logger = createLogger('repair', 'silent')
      const done = await repairRows(
        { ...deps, projects, logger, geoipDatabase: settingsOf(flags).geoipDatabase },
        {
          ...(topic !== undefined && { topic }),
          ...(partition !== undefined && { partition }),
          ...(from !== undefined && { from }),
          ...(to !== undefined && { to }),
          deleteUnexpected: deleteUnexpected === true,
          acceptLoss: acceptLoss === true,
          apply: flags.yes === true,
          waitMs: flags.wait * 1_000,
          progress: ({ offsets, of }) => bar.show(offsets, of, 'offsets'),
        },
      )
      bar.clear()
      print(flags, done, formatRows(done))
      return done.left ? EXIT.finding : EXIT.done
    } finally {
      bar.clear()
      await projects.close()
    }
  }
  // A restored ClickHouse may lack the schema, too.
  return withAll(flags, work, (context) => context.migratedWarehouse())
}

type Deps = import('../repair/index.ts').RewindDeps

async function withAll(
  flags: DeploymentFlags,
  work: (deps: Deps) => Promise<ExitCode>,
  warehouse: (context: Context) => Promise<Deps['warehouse']> = (context) => context.warehouse(),
): Promise<ExitCode> {
  const context = new Context(settingsOf(flags), 'repair', 6)
  try {
    context.requireRunning()
    const { deployment } = await context.prepareState()
    return await work({
      sql: context.sql,
      log: await context.log(),
      warehouse: await warehouse(context),
      partitions: deployment.partitions,
    })
  } finally {
    await context.close()
  }
}

function print(flags: RepairFlags, data: object, text: string): void {
  process.stdout.write(`${flags.json === true ? JSON.stringify(data) : text}\n`)
}

function parsePartition(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw cliError('HR_CLI_ARGUMENT', `--partition "${text}" is no partition number`)
  return Number(text)
}

function parseOffset(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw cliError('HR_CLI_ARGUMENT', `"${text}" is no offset`)
  return Number(text)
}
