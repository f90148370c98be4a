/** `headrace dead-letters`: what became nothing and why, and what to do about it. The work is `src/deadletters/`. */
import { hostname, userInfo } from 'node:os'
import { type Command, Option } from 'commander'
import { listProjects, readProject } from '../catalog/index.ts'
import type { JobStatus, LetterDeps, LetterFilter, LetterState, Survey } from '../deadletters/index.ts'
import { canonicalUuid, DEAD_LETTER_REASONS, parseSource } from '../event/index.ts'
import { pause } from '../platform/index.ts'
import { confirmed } from './confirmed.ts'
import type { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'
import { parseTime } from './time.ts'
import { write } from './write.ts'

type JsonFlags = DeploymentFlags & { json?: boolean }
type FilterFlags = JsonFlags & {
  project?: string
  reason?: string
  step?: string
  event?: string
  distinctId?: string
  uuid?: string
  since?: number
  until?: number
  state?: string
}
type ChangeFlags = FilterFlags & { all?: boolean; yes?: boolean; why?: string; by: string }
type ReplayFlags = ChangeFlags & { rate: number; wait: boolean }

const STATES = ['open', 'replaying', 'replayed', 'failed', 'discarded']
const RATE_DEFAULT = 500
const PROGRESS_MS = 500

type Done = (code: ExitCode) => void
type Rooms = typeof import('../deadletters/index.ts')

export function addDeadLetters(program: Command, done: Done): void {
  const verb = program
    .command('dead-letters')
    .description('look at the events that ended as dead letters, send them again, or discard them')
    .addHelpText(
      'after',
      `
Examples:
  headrace dead-letters list --since 2d
  headrace dead-letters show 0190b1a2-7c3d-7e4f-8a5b-6c7d8e9f0a1b
  headrace dead-letters replay --reason restricted --project shop
  headrace dead-letters discard --reason unreadable_event --why "an old client" --yes`,
    )
  withFilters(verb.command('list'), 'open,failed')
    .description('count them by reason, with the first sample, and list the newest')
    .option('--limit <count>', 'of the newest', parseCount, 20)
    .action(async (flags: FilterFlags & { limit: number }) => done(await runList(flags)))
  withDeployment(verb.command('show'))
    .argument('<which>', 'a uuid, or a source: log id/partition/offset/sub')
    .description('show one: its bytes as the client sent them, what capture knew, why, and what to do')
    .option('--raw', 'write the bytes, and nothing else')
    .option('--json', 'one JSON array')
    .action(async (which: string, flags: JsonFlags & { raw?: boolean }) => done(await runShow(which, flags)))
  withChange(withFilters(verb.command('replay'), 'open'))
    .description('send them again, as the client sent them, through ingestion')
    .option('--rate <events>', 'at most so many a second', parseCount, RATE_DEFAULT)
    .option('--no-wait', 'leave it to the capture process that does it')
    .action(async (flags: ReplayFlags) => done(await runReplay(flags)))
  withChange(withFilters(verb.command('discard'), 'open,failed'))
    .description('hide them from the list, and keep who did it and why; they stay dead letters')
    .action(async (flags: ChangeFlags) => done(await runDiscard(flags)))
  withDeployment(verb.command('jobs'))
    .description('the newest orders to send them again')
    .option('--json', 'one JSON array')
    .action(async (flags: JsonFlags) => done(await runJobs(flags)))
  for (const [name, says] of [
    ['stop', 'stop an order to send them again; `resume` goes on with it'],
    ['resume', 'go on with an order that was stopped'],
  ] as const) {
    withDeployment(verb.command(name))
      .argument('<job>', 'see `headrace dead-letters jobs`')
      .description(says)
      .action(async (job: string, flags: DeploymentFlags) => done(await runSwitch(name, job, flags)))
  }
}

function withFilters(command: Command, states: string): Command {
  return withDeployment(command)
    .option('--project <name>', 'only of this project')
    .addOption(new Option('--reason <reason>', 'only with it').choices(Object.keys(DEAD_LETTER_REASONS)))
    .option('--step <step>', 'only those that this step gave up')
    .option('--event <name>', 'only with this event name')
    .option('--distinct-id <id>', 'only of it')
    .option('--uuid <uuid>', 'only this event')
    .option('--since <time>', 'received at or after: a date, or 30m, 12h, 7d ago', parseTime)
    .option('--until <time>', 'received before', parseTime)
    .option('--state <states>', `of ${STATES.join(', ')}, with commas; or all`, states)
    .option('--json', 'one JSON object')
}

function withChange(command: Command): Command {
  return command
    .option('--all', 'needed when there is no filter')
    .option('--why <text>', 'kept with it')
    .option('--by <name>', 'who it is kept under', `${userInfo().username}@${hostname()}`)
    .option('--yes', 'do it without asking')
}

async function runList(flags: FilterFlags & { limit: number }): Promise<ExitCode> {
  return withLetters(flags, async (rooms, deps, names) => {
    const filter = await filterOf(deps, flags)
    const found = await rooms.survey(rooms.selectLetters(deps, filter, statesOf(flags)), flags.limit)
    if (flags.json) write(JSON.stringify(rooms.surveyJson(found, names)))
    else write(surveyText(rooms, found, names))
    return EXIT.done
  })
}

function surveyText(rooms: Rooms, found: Survey, names: NameOf): string {
  if (found.total === 0) return 'none'
  const groups = rooms.groupTable(found.groups, names)
  const newest = rooms.letterTable(found.newest, names)
  return [
    formatTable(groups.head, groups.rows),
    '',
    `the newest ${found.newest.length} of ${found.total}:`,
    formatTable(newest.head, newest.rows),
    '',
    '`headrace dead-letters show <uuid>` tells what to do about one',
  ].join('\n')
}

async function runShow(which: string, flags: JsonFlags & { raw?: boolean }): Promise<ExitCode> {
  const uuid = canonicalUuid(which)
  const source = parseSource(which)
  if (!uuid && !source) {
    throw cliError(
      'HR_CLI_ARGUMENT',
      `"${which}" is neither a uuid nor a source (log id/partition/offset/sub)`,
    )
  }
  return withLetters(flags, async (rooms, deps, names) => {
    const letters = await rooms.showLetters(deps, uuid ? { uuid } : { source: source! })
    if (flags.json) write(JSON.stringify(letters.map((letter) => rooms.shownJson(letter, names))))
    else if (flags.raw && letters.length > 1) {
      throw cliError('HR_CLI_ARGUMENT', `there are ${letters.length} with this uuid; name one by its source`)
    } else if (flags.raw) await Bun.write(Bun.stdout, letters[0]?.rawValue ?? '')
    else
      write(letters.map((letter) => rooms.formatShown(letter, names)).join('\n\n') || 'no such dead letter')
    return letters.length > 0 ? EXIT.done : EXIT.finding
  })
}

async function runReplay(flags: ReplayFlags): Promise<ExitCode> {
  return withLetters(flags, async (rooms, deps, names) => {
    const filter = await filterOf(deps, flags, true)
    const states = statesOf(flags)
    for (const state of states) {
      if (state === 'replaying' || state === 'replayed')
        throw cliError(
          'HR_CLI_ARGUMENT',
          `--state ${state}: those are sent, or are being sent; each is sent once`,
        )
    }
    const found = await rooms.survey(rooms.selectLetters(deps, filter, states), 0)
    const says = replaySays(found, rooms.JOB_LETTERS_MAX, flags.rate)
    if (!(await agreed(flags, found, says, rooms, names)))
      return found.replayable > 0 ? EXIT.finding : EXIT.done
    const job = await rooms.planJob(deps.sql, rooms.selectLetters(deps, filter, states), {
      by: flags.by,
      why: flags.why ?? '',
      filter,
      eventsPerSecond: flags.rate,
      again: (['failed', 'discarded'] as const).filter((state) => states.has(state)),
    })
    if (!job) {
      write(
        flags.json
          ? JSON.stringify({ applied: true, job: null })
          : 'another order has them already, or they are being deleted',
      )
      return EXIT.done
    }
    if (job.held > 0) process.stderr.write(`${job.held} stay unsent: whose they are is being deleted\n`)
    if (!flags.wait) {
      write(
        flags.json
          ? JSON.stringify({ applied: true, job: job.id })
          : `job ${job.id} has ${job.letters} letters`,
      )
      return EXIT.done
    }
    const ended = await follow(rooms, deps, job.id)
    write(flags.json ? JSON.stringify({ applied: true, job: ended }) : endSays(ended, job.cut))
    return ended.state === 'done' && ended.failed === 0 ? EXIT.done : EXIT.finding
  })
}

function replaySays({ total, replayable }: Survey, lettersMax: number, rate: number): string {
  const now = Math.min(replayable, lettersMax)
  const parts = [`${now} would be sent again, ${rate} a second at most (about ${Math.ceil(now / rate)} s)`]
  if (replayable > now)
    parts.push(`${replayable - now} are left for the next time: one order takes ${lettersMax}`)
  if (total > replayable) parts.push(`${total - replayable} have no raw record and stay`)
  return `${parts.join('; ')}. What they do to their persons happens when they come back.`
}

function endSays(job: JobStatus, cut: boolean): string {
  const failed = job.failed > 0 ? `, ${job.failed} could not be (list --state failed)` : ''
  const more = cut ? '; there are more: run it again' : ''
  return job.state === 'done'
    ? `${job.replayed} of ${job.letters} were sent again${failed}${more}. \`headrace trace <uuid>\` tells what became of one`
    : `stopped: ${job.says}. ${job.replayed} of ${job.letters} were sent${failed}; \`headrace dead-letters resume ${job.id}\` goes on`
}

/** Tells of the progress until the job has ended. The work is capture's: to end this verb ends nothing. */
async function follow(rooms: Rooms, deps: LetterDeps, id: string): Promise<JobStatus> {
  let told = ''
  for (;;) {
    const [job] = await rooms.jobStatus(deps.sql, id)
    const says = `${job!.replayed} of ${job!.letters} sent${job!.failed > 0 ? `, ${job!.failed} failed` : ''}`
    const line = `${says}${job!.says ? `; ${job!.says}` : job!.taken ? '' : '; waits for a capture process'}`
    if (line !== told) process.stderr.write(`${line}\n`)
    told = line
    if (job!.state !== 'open') return job!
    await pause(PROGRESS_MS)
  }
}

async function runDiscard(flags: ChangeFlags): Promise<ExitCode> {
  if (!flags.why) throw cliError('HR_CLI_ARGUMENT', 'say why: --why "…" is kept with what is discarded')
  return withLetters(flags, async (rooms, deps, names) => {
    const filter = await filterOf(deps, flags, true)
    const states = statesOf(flags)
    for (const state of states) {
      if (state !== 'open' && state !== 'failed')
        throw cliError('HR_CLI_ARGUMENT', `--state ${state}: only open and failed ones can be discarded`)
    }
    const found = await rooms.survey(rooms.selectLetters(deps, filter, states), 0)
    const says = `${found.total} would be hidden from the list; they stay dead letters in the ledger.`
    if (!(await agreed(flags, found, says, rooms, names))) return found.total > 0 ? EXIT.finding : EXIT.done
    let discarded = 0
    for await (const page of rooms.selectLetters(deps, filter, states))
      discarded += await rooms.discardLetters(deps.sql, page, { by: flags.by, why: flags.why! })
    write(flags.json ? JSON.stringify({ applied: true, discarded }) : `${discarded} are discarded`)
    return EXIT.done
  })
}

/** Shows what it would do; true when it is to be done: by --yes, or by an answer on a terminal. */
async function agreed(
  flags: ChangeFlags,
  found: Survey,
  says: string,
  rooms: Rooms,
  names: NameOf,
): Promise<boolean> {
  if (flags.yes) return true
  if (flags.json) {
    write(JSON.stringify({ applied: false, ...rooms.surveyJson(found, names) }))
    return false
  }
  const table = rooms.groupTable(found.groups, names)
  write(found.total === 0 ? 'none' : `${formatTable(table.head, table.rows)}\n\n${says}`)
  if (found.total === 0) return false
  return confirmed('Do it?')
}

async function runJobs(flags: JsonFlags): Promise<ExitCode> {
  return withLetters(flags, async (rooms, deps) => {
    const jobs = await rooms.jobStatus(deps.sql)
    const table = rooms.jobTable(jobs)
    write(
      flags.json ? JSON.stringify(jobs) : jobs.length === 0 ? 'none' : formatTable(table.head, table.rows),
    )
    return jobs.some(({ state }) => state === 'stopped') ? EXIT.finding : EXIT.done
  })
}

async function runSwitch(name: 'stop' | 'resume', text: string, flags: DeploymentFlags): Promise<ExitCode> {
  const id = canonicalUuid(text)
  if (!id) throw cliError('HR_CLI_ARGUMENT', `"${text}" is no job; see \`headrace dead-letters jobs\``)
  return withLetters(flags, async (rooms, deps) => {
    const done = await (name === 'stop' ? rooms.stopJob(deps.sql, id) : rooms.resumeJob(deps.sql, id))
    write(done ? `job ${id} is ${name === 'stop' ? 'stopped' : 'open'}` : `there is no job ${id} to ${name}`)
    return done ? EXIT.done : EXIT.finding
  })
}

type NameOf = (teamId: number) => string | undefined

async function withLetters(
  flags: DeploymentFlags,
  work: (rooms: Rooms, deps: LetterDeps, names: NameOf) => Promise<ExitCode>,
): Promise<ExitCode> {
  return withState(flags, 'dead-letters', async (context: Context) => {
    const rooms = await import('../deadletters/index.ts')
    const projects = new Map((await listProjects(context.sql)).map(({ teamId, name }) => [teamId, name]))
    const deps = { sql: context.sql, warehouse: await context.warehouse() }
    return work(rooms, deps, (teamId) => projects.get(teamId))
  })
}

/** Throws HR_CLI_ARGUMENT, and HR_PROJECT_UNKNOWN; with `needed`, also when nothing is filtered and --all is not said. */
async function filterOf(
  deps: LetterDeps,
  flags: FilterFlags & { all?: boolean },
  needed = false,
): Promise<LetterFilter> {
  const uuid = flags.uuid === undefined ? undefined : canonicalUuid(flags.uuid)
  if (flags.uuid !== undefined && !uuid)
    throw cliError('HR_CLI_ARGUMENT', `--uuid "${flags.uuid}" is no uuid`)
  const project = flags.project === undefined ? undefined : await readProject(deps.sql, flags.project)
  const filter: LetterFilter = {
    ...(project && { teamId: project.teamId }),
    ...(flags.reason !== undefined && { reason: flags.reason }),
    ...(flags.step !== undefined && { step: flags.step }),
    ...(flags.event !== undefined && { event: flags.event }),
    ...(flags.distinctId !== undefined && { distinctId: flags.distinctId }),
    ...(uuid && { uuid }),
    ...(flags.since !== undefined && { fromMs: flags.since }),
    ...(flags.until !== undefined && { toMs: flags.until }),
  }
  if (needed && !flags.all && Object.keys(filter).length === 0)
    throw cliError(
      'HR_CLI_ARGUMENT',
      'this would be all dead letters of all projects: filter them, or say --all',
    )
  return filter
}

function statesOf(flags: FilterFlags): ReadonlySet<LetterState> {
  const named = flags.state === 'all' ? STATES : (flags.state ?? '').split(',').map((state) => state.trim())
  for (const state of named) {
    if (!STATES.includes(state))
      throw cliError('HR_CLI_ARGUMENT', `--state "${state}"; allowed are ${STATES.join(', ')}, and all`)
  }
  return new Set(named as LetterState[])
}
