/** `headrace rejected`: the last requests that were refused, or of which events were refused. */
import type { Command } from 'commander'
import {
  listProjects,
  listRejectedRequests,
  NO_PROJECT,
  type RejectedRequest,
  readProject,
} from '../catalog/index.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, withDeployment } from './options.ts'
import { withState } from './state.ts'
import { formatTable } from './table.ts'

type RejectedFlags = DeploymentFlags & { json?: boolean; project?: string; unknown?: boolean }

const CELL_UNITS_MAX = 60

export function addRejected(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('rejected'))
    .description('the last 100 requests of each project with something refused, newest first')
    .option('--project <name>', 'only those of this project')
    .option('--unknown', 'only those that named no project that exists')
    .option('--json', 'one JSON array with all that is kept of each')
    .addHelpText(
      'after',
      `
Examples:
  headrace rejected --project shop
  headrace rejected --unknown --json | jq '.[0]'

A sample for support: under a flood not every request is kept. The count is in headrace_capture_events_rejected_total
and headrace_capture_refused_total.`,
    )
    .action(async (flags: RejectedFlags) => {
      const { requests, names } = await withState(flags, 'rejected', async ({ sql }) => {
        const one = flags.project === undefined ? undefined : await readProject(sql, flags.project)
        const teamId = flags.unknown ? NO_PROJECT : one?.teamId
        const all = await listProjects(sql)
        return {
          requests: await listRejectedRequests(sql, teamId),
          names: new Map(all.map((project) => [project.teamId, project.name])),
        }
      })
      process.stdout.write(`${flags.json ? asJson(requests, names) : asTable(requests, names)}\n`)
      done(EXIT.done)
    })
}

type Names = ReadonlyMap<number, string>

function asJson(requests: RejectedRequest[], names: Names): string {
  return JSON.stringify(
    requests.map((one) => ({
      time: new Date(one.atMs).toISOString(),
      team_id: one.teamId,
      project: names.get(one.teamId) ?? null,
      path: one.path,
      status: one.status,
      code: one.code,
      message: one.message,
      reasons: one.reasons,
      ip: one.ip,
      user_agent: one.userAgent,
      sdk: one.sdk,
      request_id: one.requestId,
      token: one.token,
      body_bytes: one.bodyBytes ?? null,
      sample: one.sample,
    })),
  )
}

function asTable(requests: RejectedRequest[], names: Names): string {
  return formatTable(
    ['TIME', 'PROJECT', 'PATH', 'STATUS', 'WHY', 'SDK', 'REQUEST', 'SAMPLE'],
    requests.map((one) => [
      new Date(one.atMs).toISOString(),
      names.get(one.teamId) ?? '-',
      plain(one.path),
      String(one.status),
      whyOf(one),
      plain(one.sdk || one.userAgent),
      plain(one.requestId),
      plain(one.sample),
    ]),
  )
}

/** What clients send must not steer the terminal. */
function plain(text: string): string {
  return text.slice(0, CELL_UNITS_MAX).replace(/[^\x20-\x7e]/g, '.')
}

function whyOf({ code, reasons }: RejectedRequest): string {
  const counts = Object.entries(reasons).map(([reason, count]) => `${reason} ×${count}`)
  return [...(code === '' ? [] : [code]), ...counts].join(', ')
}
