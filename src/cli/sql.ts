/**
 * `headrace sql "<query>"`: asks the warehouse over ClickHouse's HTTP interface and prints what it answers, as it
 * answers. Rows are never parsed here, so a 64-bit number keeps all its digits, in the table and in the JSON.
 */
import type { Command } from 'commander'
import { warehouseUrl } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'

const ANSWER_MS_MAX = 300_000

export function addSql(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('sql'))
    .argument('<query>', 'one statement for ClickHouse')
    .option('--json', 'one JSON array of row objects; 64-bit integers are numbers with all their digits')
    .description('ask ClickHouse')
    .addHelpText(
      'after',
      `
Examples:
  headrace sql "SELECT event, count() FROM events GROUP BY event"
  headrace sql --json "SELECT uuid, event, person_id FROM events LIMIT 5" | jq .`,
    )
    .action(async (query: string, flags: DeploymentFlags & { json?: boolean }) => {
      const url = warehouseUrl(settingsOf(flags))
      process.stdout.write(
        flags.json === true
          ? jsonArray(await ask(url, query, 'JSONEachRow'))
          : await ask(url, query, tableFormat()),
      )
      done(EXIT.done)
    })
}

type Format = { name: string; settings: Record<string, string> }

function tableFormat(): Format {
  const colour = process.stdout.isTTY ? '1' : '0'
  return {
    name: 'PrettyCompactMonoBlock',
    settings: { output_format_pretty_color: colour, output_format_pretty_row_numbers: '0' },
  }
}

/** The text of the answer. `url` may carry user, password and, as its path, the database. */
async function ask(url: string, query: string, format: Format | 'JSONEachRow'): Promise<string> {
  const target = new URL(url)
  const headers = new Headers()
  if (target.username !== '') headers.set('x-clickhouse-user', decodeURIComponent(target.username))
  if (target.password !== '') headers.set('x-clickhouse-key', decodeURIComponent(target.password))
  const database = decodeURIComponent(target.pathname.slice(1))
  const { name, settings } = typeof format === 'string' ? { name: format, settings: {} } : format
  const parameters = new URLSearchParams({
    ...(database === '' ? {} : { database }),
    default_format: name,
    // Else an error after the first rows would come with status 200, as text among them.
    wait_end_of_query: '1',
    output_format_json_quote_64bit_integers: '0',
    ...settings,
  })
  target.username = target.password = ''
  target.pathname = '/'
  target.search = parameters.toString()
  const signal = AbortSignal.timeout(ANSWER_MS_MAX)
  let response: Response
  let text: string
  try {
    response = await fetch(target, { method: 'POST', body: query, headers, signal })
    text = await response.text()
  } catch (error) {
    throw cliError(
      'HR_CLI_UNREACHABLE',
      `ClickHouse at ${target.origin} does not answer; is \`headrace up\` running?`,
      error,
    )
  }
  if (response.status === 503 || response.status === 502) {
    throw cliError('HR_CLI_UNREACHABLE', `ClickHouse at ${target.origin} is not ready: ${text.trim()}`)
  }
  if (!response.ok) throw cliError('HR_CLI_QUERY_REFUSED', text.trim())
  return text
}

/** One JSON value per line → one JSON array. A query with a FORMAT clause of its own cannot be one. */
export function jsonArray(lines: string): string {
  const rows = lines.split('\n').filter((line) => line !== '')
  if (rows.some((row) => !row.startsWith('{'))) {
    throw cliError('HR_CLI_ARGUMENT', '--json needs a query without a FORMAT clause of its own')
  }
  return `[${rows.join(',\n')}]\n`
}
