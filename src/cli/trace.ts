/** `headrace trace <uuid>`: the life of one event. The search is `src/ledger/`. */
import type { Command } from 'commander'
import { canonicalUuid } from '../event/index.ts'
import { Context } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'

type TraceFlags = DeploymentFlags & { json?: boolean }

export function addTrace(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('trace'))
    .argument('<uuid>', 'the uuid of the event')
    .description('tell what became of one event')
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `
Example:
  headrace trace 0190b1a2-7c3d-7e4f-8a5b-6c7d8e9f0a1b

Exit code 1 when nothing is known of it.`,
    )
    .action(async (uuid: string, flags: TraceFlags) => done(await runTrace(uuid, flags)))
}

async function runTrace(text: string, flags: TraceFlags): Promise<ExitCode> {
  const settings = settingsOf(flags)
  const uuid = canonicalUuid(text)
  if (uuid === undefined) throw cliError('HR_CLI_ARGUMENT', `"${text}" is not a uuid`)
  const { formatTrace, trace } = await import('../ledger/index.ts')
  const context = new Context(settings, 'trace', 2)
  try {
    context.requireRunning()
    const deps = { sql: context.sql, log: await context.log(), warehouse: await context.warehouse() }
    const found = await trace(deps, uuid)
    process.stdout.write(`${flags.json === true ? JSON.stringify(found) : formatTrace(found)}\n`)
    return found.found ? EXIT.done : EXIT.finding
  } finally {
    await context.close()
  }
}
