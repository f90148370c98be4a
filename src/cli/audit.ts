/** `headrace audit`: is every offset accounted for (I4)? The comparison is `src/ledger/`. */
import { type Command, Option } from 'commander'
import { Context } from './context.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'

type AuditFlags = DeploymentFlags & { json?: boolean; wait: number }

export function addAudit(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('audit'))
    .description('compare what was decided about every event with what is in ClickHouse')
    .addOption(
      new Option('--wait <seconds>', 'how long to wait for rows that are on their way')
        .default(10)
        .argParser(parseCount),
    )
    .option('--json', 'one JSON object with every finding')
    .addHelpText(
      'after',
      `
Examples:
  headrace audit
  headrace audit --json | jq .unaccounted

Exit code 1 when something does not add up (docs/runbooks/ledger.md), or events wait in a spool of capture
(docs/runbooks/spool.md).`,
    )
    .action(async (flags: AuditFlags) => done(await runAudit(flags)))
}

async function runAudit(flags: AuditFlags): Promise<ExitCode> {
  const { audit, formatAudit } = await import('../ledger/index.ts')
  const context = new Context(settingsOf(flags), 'audit', 2)
  try {
    context.requireRunning()
    const deps = { sql: context.sql, log: await context.log(), warehouse: await context.warehouse() }
    const report = await audit(deps, { waitMs: flags.wait * 1_000 })
    process.stdout.write(`${flags.json === true ? JSON.stringify(report) : formatAudit(report)}\n`)
    return report.exact && report.spoolFindings === 0 ? EXIT.done : EXIT.finding
  } finally {
    await context.close()
  }
}
