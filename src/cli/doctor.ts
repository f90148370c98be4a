/**
 * `headrace doctor`: follows the way of an event, hop by hop, and names the first one that is broken with what to do
 * about it. Hops behind a broken one are not judged: they usually only suffer from it. Changes nothing, unless
 * `--probe` is given: then one event goes the whole way.
 */
import { randomUUID } from 'node:crypto'
import { accessSync, constants, statfsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { DEFAULT_PROJECT, guardState, listProjects, type Settings } from '../catalog/index.ts'
import { HeadraceError, isRetriable, RAW_TOPICS } from '../event/index.ts'
import { askRole, dataFolderOwner, listRoleSockets } from '../supervisor/index.ts'
import { Context, warehouseUrl } from './context.ts'
import { EXIT, type ExitCode, sentence } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'

const ANSWER_MS_MAX = 5_000
const PROBE_MS_MAX = 15_000
const PROBE_EVENT = '$headrace_probe'

type Verdict =
  | { ok: true; detail: string }
  | { ok: false; detail: string; advice: string; unreachable: boolean }
type Hop = { name: string; check(): Promise<Verdict> }
type Finding = { hop: string; state: 'ok' | 'broken' | 'not checked'; detail: string; advice?: string }

export function addDoctor(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('doctor'))
    .description('check every hop of an event and name the first broken one')
    .option('--probe', `send an event ${PROBE_EVENT} and wait until it can be queried`)
    .option('--json', 'one JSON array of hops')
    .addHelpText(
      'after',
      `
Examples:
  headrace doctor
  headrace doctor --probe

Exit code 1: a hop is broken; 3: a hop cannot be reached.`,
    )
    .action(async (flags: DeploymentFlags & { probe?: boolean; json?: boolean }) => {
      const settings = settingsOf(flags)
      const context = new Context(settings, 'doctor', 1)
      try {
        const { findings, code } = await examine(hopsOf(context, flags.probe === true))
        process.stdout.write(flags.json === true ? `${JSON.stringify(findings)}\n` : report(findings))
        done(code)
      } finally {
        await context.close()
      }
    })
}

/** Checks in order until one is broken. */
export async function examine(hops: readonly Hop[]): Promise<{ findings: Finding[]; code: ExitCode }> {
  const findings: Finding[] = []
  let code: ExitCode = EXIT.done
  for (const { name, check } of hops) {
    if (code !== EXIT.done) {
      findings.push({ hop: name, state: 'not checked', detail: '' })
      continue
    }
    const verdict = await check().catch((error: unknown): Verdict => {
      const advice = 'see its sentence; docs/reference/errors.md explains the code'
      return { ok: false, detail: sentence(error, 'info'), advice, unreachable: isRetriable(error) }
    })
    if (verdict.ok) {
      findings.push({ hop: name, state: 'ok', detail: verdict.detail })
      continue
    }
    const { detail, advice } = verdict
    findings.push({ hop: name, state: 'broken', detail, advice })
    code = verdict.unreachable ? EXIT.unreachable : EXIT.finding
  }
  return { findings, code }
}

function report(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ hop }) => hop.length))
  const signs = { ok: 'ok     ', broken: 'BROKEN ', 'not checked': '-      ' }
  const lines = findings.map(({ hop, state, detail }) =>
    `${signs[state]} ${hop.padEnd(width)}  ${detail}`.trimEnd(),
  )
  const broken = findings.find(({ state }) => state === 'broken')
  lines.push(
    '',
    broken ? `First broken: ${broken.hop}. What to do: ${broken.advice}.` : 'Every hop is sound.',
  )
  return `${lines.join('\n')}\n`
}

function hopsOf(context: Context, probe: boolean): Hop[] {
  const { settings } = context
  const embedded = [settings.log, settings.postgres, settings.clickhouse].includes('embedded')
  const hops: Hop[] = [{ name: 'settings', check: async () => sound(`log ${settings.log}`) }]
  if (embedded) hops.push({ name: 'data folder', check: () => checkFolder(settings) })
  if (embedded) hops.push({ name: 'supervisor', check: () => checkSupervisor(settings) })
  hops.push(
    { name: 'postgres', check: () => checkPostgres(context) },
    { name: 'log', check: () => checkLog(context) },
    { name: 'topics', check: () => checkTopicsOf(context) },
    { name: 'warehouse', check: () => checkWarehouse(context) },
    { name: 'schema', check: () => checkSchema(context) },
    { name: 'roles', check: () => checkRoles(settings) },
    { name: 'capture', check: () => checkCapture(settings) },
  )
  if (probe) hops.push({ name: 'probe', check: () => sendProbe(context) })
  return hops
}

const sound = (detail: string): Verdict => ({ ok: true, detail })
const broken = (detail: string, advice: string): Verdict => ({
  ok: false,
  detail,
  advice,
  unreachable: false,
})
const unreachable = (detail: string, advice: string): Verdict => ({
  ok: false,
  detail,
  advice,
  unreachable: true,
})

async function checkFolder({ dataDir, logDiskFullPercent }: Settings): Promise<Verdict> {
  try {
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    return code === 'ENOENT'
      ? broken(
          `${dataDir} does not exist`,
          'start `headrace up` once, or name the right folder with --data-dir',
        )
      : broken(`${dataDir} cannot be read and written (${code})`, 'run as the user who owns it')
  }
  const disk = statfsSync(dataDir)
  const used = disk.blocks - disk.bfree
  const percent = Math.round((100 * used) / Math.max(1, used + disk.bavail))
  if (percent >= logDiskFullPercent) {
    return broken(
      `the disk of ${dataDir} is ${percent} % full, new events are refused from ${logDiskFullPercent} %`,
      'follow docs/runbooks/disk-full.md',
    )
  }
  return sound(`${dataDir}, disk ${percent} % full`)
}

async function checkSupervisor({ dataDir }: Settings): Promise<Verdict> {
  const pid = dataFolderOwner(dataDir)
  // Roles that were started one by one have no supervisor, and need none.
  if (pid === undefined && listRoleSockets(dataDir).some((socket) => socket.pid !== undefined))
    return sound('none; roles were started alone')
  if (pid === undefined) return unreachable('nothing runs on this data folder', 'start it with `headrace up`')
  return sound(`process ${pid}`)
}

async function checkPostgres({ sql, settings }: Context): Promise<Verdict> {
  const [row] = await guardState(
    'asking Postgres',
    () => sql<{ version: string; born: string | null }[]>`
      SELECT current_setting('server_version') AS version, to_regclass('deployment')::text AS born`,
  )
  if (!row?.born) {
    return broken(
      `Postgres ${row?.version} has none of our tables`,
      settings.postgres === 'embedded'
        ? 'start `headrace up`'
        : 'start a role or `headrace kafka apply` with this --postgres',
    )
  }
  return sound(`version ${row.version}`)
}

async function checkLog(context: Context): Promise<Verdict> {
  const log = await context.log()
  const reason = await log.notReady()
  if (reason === undefined) return sound(context.settings.log)
  return unreachable(
    reason,
    log.kind === 'kafka' ? 'see whether the brokers run and can be reached' : 'see the data folder',
  )
}

async function checkTopicsOf(context: Context): Promise<Verdict> {
  const [born] = await guardState(
    'reading the deployment',
    () =>
      context.sql<{ partitions: number; log_kind: string }[]>`SELECT partitions, log_kind FROM deployment`,
  )
  if (!born) return broken('the deployment is not born yet', 'start a role, or run `headrace kafka apply`')
  if (born.log_kind !== context.logKind) {
    return broken(
      `this state was born with the ${born.log_kind} log, the settings say ${context.logKind}`,
      'set HEADRACE_LOG to the log of this state, or use another state',
    )
  }
  const { checkTopics } = await import('../log/index.ts')
  const log = await context.log()
  const { windowBeyondLog } = await import('../ingest/index.ts')
  const wanted = await context.wantedTopics(born.partitions)
  const states = await log.describe(wanted.map((topic) => topic.name))
  checkTopics(wanted, states)
  const raw = states.filter(({ name }) => RAW_TOPICS.some((topic) => topic === name))
  const beyond = windowBeyondLog(context.settings.dedupWindowHours, raw)
  return sound(`${wanted.length} topics, ${born.partitions} partitions${beyond ? `; note: ${beyond}` : ''}`)
}

async function checkWarehouse(context: Context): Promise<Verdict> {
  const warehouse = await context.warehouse()
  const reason = await warehouse.ping()
  const shown = new URL(warehouseUrl(context.settings)).origin
  if (reason !== undefined) return unreachable(reason, `see whether ClickHouse runs at ${shown}`)
  const { checkVersion } = await import('../warehouse/index.ts')
  try {
    return sound(`${shown}, version ${await checkVersion(warehouse)}`)
  } catch (error) {
    if (!(error instanceof HeadraceError) || error.code !== 'HR_WAREHOUSE_TOO_OLD') throw error
    return broken(error.message, 'bring ClickHouse to a newer version, or use another one')
  }
}

async function checkSchema(context: Context): Promise<Verdict> {
  const { migrationFiles } = await import('../warehouse/index.ts')
  const warehouse = await context.warehouse()
  const query = 'SELECT count() AS applied FROM headrace_migrations FINAL'
  const rows = await warehouse.query<{ applied: number }>(query).catch((error: unknown) => {
    if (error instanceof HeadraceError && error.code === 'HR_WAREHOUSE_SCHEMA_BEHIND') return []
    throw error
  })
  const wanted = migrationFiles().length
  const applied = rows[0]?.applied ?? 0
  if (applied < wanted) {
    return broken(
      `${applied} of ${wanted} migrations are applied`,
      'start a load role of this version; it applies them',
    )
  }
  return sound(`${applied} migrations`)
}

/** Those that answer in the run folder, or else the one at HEADRACE_HEALTH_ADDRESS. */
async function checkRoles({ dataDir, healthAddress }: Settings): Promise<Verdict> {
  const sockets = listRoleSockets(dataDir)
  if (sockets.length === 0) {
    if (healthAddress === '')
      return unreachable('no role runs on this machine', 'start `headrace up` or the roles')
    const verdict = await askReadiness(healthAddress)
    return verdict.ok ? sound(`the role at ${healthAddress}`) : verdict
  }
  const said: string[] = []
  for (const { role, path } of sockets) {
    const answer = await askRole(path, '/_readiness', ANSWER_MS_MAX).catch(() => undefined)
    if (!answer) {
      return unreachable(`${role} does not answer on ${path}`, `see what ${role} logged last; start it again`)
    }
    if (!answer.ok) return broken(`${role}: ${answer.text.trim()}`, `mend what ${role} waits for`)
    said.push(role)
  }
  return sound(said.join(', '))
}

async function checkCapture({ captureAddress }: Settings): Promise<Verdict> {
  const verdict = await askReadiness(captureAddress)
  return verdict.ok ? sound(`takes events at http://${captureAddress}`) : verdict
}

async function askReadiness(address: string): Promise<Verdict> {
  const response = await fetch(`http://${address}/_readiness`, {
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  }).catch(() => undefined)
  if (!response)
    return unreachable(`nobody answers at ${address}`, 'see what the role there logged, and its address')
  if (!response.ok) return broken((await response.text()).trim(), 'mend what it waits for')
  return sound(address)
}

async function sendProbe(context: Context): Promise<Verdict> {
  const project = (await listProjects(context.sql)).find(({ name }) => name === DEFAULT_PROJECT)
  if (!project) return broken(`there is no project ${DEFAULT_PROJECT}`, 'start `headrace up` once')
  const uuid = randomUUID()
  const sentMs = performance.now()
  const response = await fetch(`http://${context.settings.captureAddress}/i/v0/e/`, {
    method: 'POST',
    body: JSON.stringify({
      api_key: project.token,
      uuid,
      event: PROBE_EVENT,
      distinct_id: 'headrace-doctor',
      properties: { $process_person_profile: false },
    }),
    signal: AbortSignal.timeout(ANSWER_MS_MAX * 2),
  })
  if (!response.ok)
    return broken(
      `capture answered ${response.status}: ${(await response.text()).trim()}`,
      'see the log of capture',
    )
  const warehouse = await context.warehouse()
  while (performance.now() - sentMs < PROBE_MS_MAX) {
    const rows = await warehouse.query('SELECT 1 FROM events WHERE uuid = {uuid:UUID}', { uuid })
    if (rows.length > 0)
      return sound(`${PROBE_EVENT} could be queried after ${Math.round(performance.now() - sentMs)} ms`)
    await delay(100)
  }
  return broken(
    `event ${uuid} was accepted but cannot be queried after ${PROBE_MS_MAX} ms`,
    `see where it is: headrace trace ${uuid}`,
  )
}
