/** The verbs, put together; what ends a verb becomes the exit code. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { addAudit } from './audit.ts'
import { addCapture } from './capture.ts'
import { addDeadLetters } from './dead-letters.ts'
import { addDedup } from './dedup.ts'
import { addDoctor } from './doctor.ts'
import { EXIT, type ExitCode, exitCodeOf, sentence } from './exit.ts'
import { addIngest } from './ingest.ts'
import { addKafka } from './kafka.ts'
import { addLoad } from './load.ts'
import { addPerson } from './person.ts'
import { addProject } from './project.ts'
import { addProperty } from './property.ts'
import { addRejected } from './rejected.ts'
import { addRepair } from './repair.ts'
import { addSchema } from './schema.ts'
import { addSql } from './sql.ts'
import { addSquash } from './squash.ts'
import { addTrace } from './trace.ts'
import { addTransform } from './transform.ts'
import { addUp } from './up.ts'
import { addWarehouse } from './warehouse.ts'

const VERBS = [
  addUp,
  addCapture,
  addIngest,
  addLoad,
  addWarehouse,
  addSql,
  addDoctor,
  addTrace,
  addAudit,
  addRepair,
  addProject,
  addPerson,
  addSquash,
  addProperty,
  addRejected,
  addDeadLetters,
  addTransform,
  addSchema,
  addDedup,
  addKafka,
]

/** Runs the verb that `args` name; resolves with the exit code. */
export async function runCli(args: string[]): Promise<ExitCode> {
  let code: ExitCode = EXIT.done
  const program = new Command('headrace')
    .description('An event pipeline: from unmodified SDKs to ClickHouse, once, with the right person.')
    .version(version())
    .exitOverride()
    .showHelpAfterError('(headrace --help shows the verbs)')
    .addHelpText(
      'after',
      `
Examples:
  headrace up
  headrace sql "SELECT event, count() FROM events GROUP BY event"
  headrace doctor

Exit codes: 0 done, 1 something was found or failed, 2 wrong usage or setting, 3 a server cannot be reached.
Settings are environment variables; docs/reference/settings.md lists them.`,
    )
  for (const addVerb of VERBS) {
    addVerb(program, (result) => {
      code = result
    })
  }
  try {
    await program.parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    // Commander has said it already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
    process.stderr.write(`headrace: ${sentence(error)}\n`)
    return exitCodeOf(error)
  }
}

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
