/** `headrace squash`: overrides of distinct ids, written into the stored events. The work is `src/squash/`. */
import { hostname, userInfo } from 'node:os'
import { type Command, Option } from 'commander'
import { warehouseUrl } from './context.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { withRows } from './row-work.ts'
import { parseTime } from './time.ts'
import { write } from './write.ts'

type SquashFlags = DeploymentFlags & {
  olderThan: number
  wait: number
  dryRun?: boolean
  json?: boolean
}

/** Ids that moved lately are likely to move again. */
const OLDER_THAN_DEFAULT = '2d'

export function addSquash(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('squash'))
    .description(
      'write the persons that overrides of distinct ids say into stored events, and take the overrides away',
    )
    .addOption(
      new Option('--older-than <time>', 'only overrides that came before: 12h, 2d, or a date')
        .argParser((text: string) => parseTime(text))
        .default(parseTime(OLDER_THAN_DEFAULT), OLDER_THAN_DEFAULT),
    )
    .addOption(
      new Option('--wait <seconds>', 'how long to wait for what is on its way')
        .default(60)
        .argParser(parseCount),
    )
    .option('--dry-run', 'only show what would be done')
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  headrace squash --dry-run
  headrace squash --older-than 7d

Answers of queries are the same before, meanwhile and afterwards. When it is stopped or killed, run it again and it goes on
where it was. docs/guides/squash.md says when it is worth it.`,
    )
    .action(async (flags: SquashFlags) => done(await run(flags)))
}

async function run(flags: SquashFlags): Promise<ExitCode> {
  const { doneText, previewSnapshot, previewText, runSquash } = await import('../squash/index.ts')
  return withRows(flags, 'squash', async (deps) => {
    if (flags.dryRun) {
      const preview = await previewSnapshot(deps.warehouse, flags.olderThan)
      write(flags.json ? JSON.stringify({ applied: false, ...preview }) : previewText(preview))
      return EXIT.done
    }
    const { username, password } = new URL(warehouseUrl(settingsOf(flags)))
    const access = { username: decodeURIComponent(username), password: decodeURIComponent(password) }
    const squash = await runSquash(
      { ...deps, access },
      {
        beforeMs: flags.olderThan,
        by: `${userInfo().username}@${hostname()}`,
        waitMs: flags.wait * 1_000,
      },
    )
    write(flags.json ? JSON.stringify({ applied: true, id: squash.id, ...squash.counts }) : doneText(squash))
    return EXIT.done
  })
}
