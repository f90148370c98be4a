/**
 * `headrace kafka plan|apply`: topics as code. `plan` says what differs from what the deployment needs and changes
 * nothing; `apply` does it. Partitions of an existing topic are never changed: the place of an event depends on them.
 */
import type { Command } from 'commander'
import { bindDeployment, migrateState } from '../catalog/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'

type KafkaFlags = DeploymentFlags & { json?: boolean }

const EXAMPLE = `
Example:
  headrace kafka %s --log kafka://k1:9092,k2:9092 --postgres postgres://headrace@db/headrace

The number of partitions is fixed when the deployment is born (HEADRACE_PARTITIONS, else 64), and kept in Postgres.`

export function addKafka(program: Command, done: (code: ExitCode) => void): void {
  const kafka = program.command('kafka').description('the topics, as code')
  withDeployment(kafka.command('plan'))
    .description('show what differs; exit code 1 when something does')
    .option('--json', 'one JSON array of actions')
    .addHelpText('after', EXAMPLE.replace('%s', 'plan'))
    .action(async (flags: KafkaFlags) => done(await plan(flags, false)))
  withDeployment(kafka.command('apply'))
    .description('create missing topics and mend settings')
    .option('--json', 'one JSON array of the actions that were done')
    .addHelpText('after', EXAMPLE.replace('%s', 'apply'))
    .action(async (flags: KafkaFlags) => done(await plan(flags, true)))
}

async function plan(flags: KafkaFlags, apply: boolean): Promise<ExitCode> {
  const settings = settingsOf(flags)
  const context = new Context(settings, 'kafka', 1)
  if (context.logKind !== 'kafka') {
    throw cliError(
      'HR_CLI_ARGUMENT',
      'the log is embedded, its topics are made at the first start; give --log kafka://…',
    )
  }
  try {
    const { applyPlan, formatPlan, planTopics } = await import('../log/index.ts')
    const log = await context.log()
    const away = await log.notReady()
    if (away !== undefined) throw cliError('HR_CLI_UNREACHABLE', away)
    await migrateState(context.sql)
    // Planning for a deployment that is not born yet would show a number that its birth may not give it.
    const deployment = await bindDeployment(context.sql, {
      logKind: 'kafka',
      partitions: settings.partitions,
    })
    const wanted = await context.wantedTopics(deployment.partitions)
    const actions = planTopics(wanted, await log.describe(wanted.map((topic) => topic.name)))
    const text =
      flags.json === true
        ? JSON.stringify(actions.map(({ kind, topic, sentence }) => ({ kind, topic, sentence })))
        : formatPlan(actions)
    process.stdout.write(`${text}\n`)
    if (!apply) return actions.length === 0 ? EXIT.done : EXIT.finding
    await applyPlan(log, actions)
    if (flags.json !== true && actions.length > 0) process.stdout.write('Done.\n')
    return EXIT.done
  } finally {
    await context.close()
  }
}
