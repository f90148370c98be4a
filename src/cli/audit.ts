/** `headrace audit`: is every offset accounted for (I4)? The comparison is `src/ledger/`. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { readProject } from '../catalog/index.ts'
import { Context } from './context.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'

type AuditFlags = DeploymentFlags & {
  json?: boolean
  wait: number
  from?: number
  to?: number
  project?: string
}

const DAY_MS = 24 * 3_600_000

export function addAudit(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('audit'))
    .description('compare what was decided about every event with what is in ClickHouse')
    .addOption(
      new Option('--wait <seconds>', 'how long to wait for rows that are on their way')
        .default(10)
        .argParser(parseCount),
    )
    .option(
      '--from <time>',
      'audit only what was decided from then on (2026-11-23, 2026-11-23T08:00Z)',
      parseTime,
    )
    .option('--to <time>', 'and only what was decided before then', parseTime)
    .option('--project <name>', 'tell what became of the events of this project, by SDK and reason')
    .option('--json', 'one JSON object with every finding')
    .addHelpText(
      'after',
      `
Examples:
  headrace audit
  headrace audit --from 2026-11-22 --to 2026-11-23
  headrace audit --project default --from 2026-11-23T08:00Z
  headrace audit --json | jq .unaccounted

With --from, --to or --project it also tells what became of the events that capture received in that time (the last day
when there is no --from), by project, SDK and reason. Times without a zone are UTC. docs/guides/audit.md explains.

Exit code 1 when something does not add up (docs/runbooks/ledger.md), or events wait in a spool of capture
(docs/runbooks/spool.md).`,
    )
    .action(async (flags: AuditFlags) => done(await runAudit(flags)))
}

async function runAudit(flags: AuditFlags): Promise<ExitCode> {
  const { audit, formatAudit, formatOutcomeCounts, rangesDecidedIn, readOutcomeCounts } = await import(
    '../ledger/index.ts'
  )
  const context = new Context(settingsOf(flags), 'audit', 2)
  try {
    context.requireRunning()
    const { sql } = context
    const deps = { sql, log: await context.log(), warehouse: await context.warehouse() }
    const toMs = flags.to ?? Date.now()
    const period = { fromMs: flags.from ?? toMs - DAY_MS, toMs }
    const timed = flags.from !== undefined || flags.to !== undefined
    const teamId = flags.project === undefined ? undefined : (await readProject(sql, flags.project)).teamId
    const outcomes = timed || teamId !== undefined ? await readOutcomeCounts(sql, period, teamId) : undefined
    const ranges = timed ? await rangesDecidedIn(sql, { fromMs: flags.from ?? 0, toMs }) : undefined
    const report = await audit(deps, { waitMs: flags.wait * 1_000, ...(ranges && { ranges }) })
    const text =
      flags.json === true
        ? JSON.stringify({ ...report, ...(outcomes && { outcomes }) })
        : [formatAudit(report), ...(outcomes ? ['', formatOutcomeCounts(outcomes)] : [])].join('\n')
    process.stdout.write(`${text}\n`)
    return report.exact && report.spoolFindings === 0 ? EXIT.done : EXIT.finding
  } finally {
    await context.close()
  }
}

/** Epoch ms. What has no zone is UTC. */
function parseTime(text: string): number {
  const zoned = /(Z|[+-]\d\d:?\d\d)$/i.test(text) || !text.includes('T') ? text : `${text}Z`
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(zoned) : Number.NaN
  if (Number.isNaN(ms))
    throw new InvalidArgumentError('a time such as 2026-11-23 or 2026-11-23T08:00Z is needed')
  return ms
}
