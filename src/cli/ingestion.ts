/** `headrace project ingestion`: shows and changes how ingest treats the events of a project. */
import { type Command, Option } from 'commander'
import { changeIngestionOptions, readProject } from '../catalog/index.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { readJsonFile } from './json-file.ts'
import { type DeploymentFlags, withDeployment } from './options.ts'
import { withState } from './state.ts'

type IngestionFlags = DeploymentFlags & { set?: string[]; file?: string; clear?: boolean }

export function addIngestion(project: Command, done: (code: ExitCode) => void): void {
  withDeployment(project.command('ingestion'))
    .argument('<name>')
    .description(
      "show a project's options of ingestion as JSON, change or replace or remove them; ingest obeys within 5 seconds",
    )
    .addOption(new Option('--set <key=value...>', 'change these, null removes one; a value is JSON or text'))
    .addOption(
      new Option('--file <file>', 'replace all by the JSON of this file; - is standard input').conflicts(
        'set',
      ),
    )
    .addOption(new Option('--clear', 'remove all').conflicts(['set', 'file']))
    .addHelpText(
      'after',
      `
Examples:
  headrace project ingestion shop
  headrace project ingestion shop --set anonymizeIps=true timezone=Europe/Berlin
  headrace project ingestion shop --set dropEventsOlderThanSeconds=null
  headrace project ingestion shop --file options.json
  headrace project ingestion shop --clear

docs/guides/ingestion.md says what the options are.`,
    )
    .action(async (name: string, flags: IngestionFlags) => {
      const change = await changeOf(flags)
      const options = await withState(flags, 'project', async ({ sql }) =>
        change
          ? await changeIngestionOptions(sql, name, change)
          : // As they are stored: what this version cannot read is to be seen, too.
            (await readProject(sql, name)).settings.ingestion,
      )
      process.stdout.write(`${JSON.stringify(options ?? {}, null, 2)}\n`)
      done(EXIT.done)
    })
}

/** What becomes of the stored options; undefined when they are only shown. */
async function changeOf(flags: IngestionFlags): Promise<((stored: unknown) => unknown) | undefined> {
  if (flags.clear) return () => undefined
  if (flags.file !== undefined) {
    const replacement = await readJsonFile('--file', flags.file)
    return () => replacement
  }
  if (!flags.set) return undefined
  const set = flags.set.map(readAssignment)
  return (stored) => assigned(stored, set)
}

type Assignment = readonly [name: string, value: unknown]

/** `name=value`, where what is not JSON is a text: time zones and choices need no quotes. */
function readAssignment(text: string): Assignment {
  const at = text.indexOf('=')
  if (at <= 0) throw cliError('HR_CLI_ARGUMENT', `--set "${text}" is not of the form key=value`)
  const value = text.slice(at + 1)
  try {
    return [text.slice(0, at), JSON.parse(value)]
  } catch {
    return [text.slice(0, at), value]
  }
}

function assigned(stored: unknown, set: readonly Assignment[]): unknown {
  if (stored !== undefined && (typeof stored !== 'object' || stored === null || Array.isArray(stored))) {
    return stored
  }
  const members = new Map(Object.entries(stored ?? {}))
  for (const [name, value] of set) {
    if (value === null) members.delete(name)
    else members.set(name, value)
  }
  return members.size === 0 ? undefined : Object.fromEntries(members)
}
