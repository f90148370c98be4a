/**
 * Runs the real Postgres in the data folder, for this process and those who share the folder.
 *
 * In `<data>/postgres`: `cluster` and `socket` (mode 0700, of the account that runs it), `programs` (a copy, only where
 * the installed ones are closed to that account), `owner.lock`. Costs about 70 MB and, idle, next to no CPU.
 *
 *   locked ─▶ orphan stopped ─▶ cluster made ─▶ starting ─▶ ready ─▶ exited (lock released)
 *
 * Must hold: no TCP; one owner per folder; everything committed survives a SIGKILL of any of its processes.
 */
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Account, chooseAccount } from './account.ts'
import { BUFFERS_MB_MIN } from './buffers.ts'
import { CLUSTER_PATH, ensureCluster, PROGRAM_ENV } from './cluster.ts'
import { postgresError } from './errors.ts'
import { stopOrphan } from './orphan.ts'
import { lockOwner } from './owner-lock.ts'
import { findPrograms, type Programs } from './programs.ts'
import { embeddedSocketDir, leaveSocketDir, prepareSocketDir } from './socket.ts'
import { stopProcess } from './stop-process.ts'
import { waitUntil } from './wait.ts'

export type PostgresExit = { code: number | null; signal: string | null }

export type EmbeddedPostgres = {
  /** For openPostgres. */
  socketDir: string
  pid: number
  /** Rolls back open transactions and stops, at the latest after 8 s. */
  stop(): Promise<void>
  /** Settles when the server ends, asked or not; the folder can then be started again. */
  exited: Promise<PostgresExit>
}

/** Recovery after a crash replays at most max_wal_size. */
const READY_WITHIN_MS = 120_000
/** Sessions of a killed server leave when they see that it is gone. */
const LEFTOVERS_GONE_WITHIN_MS = 10_000
const LEFTOVERS = /pre-existing shared memory block|lock file "postmaster.pid" already exists/
const LAST_WORDS_LINES = 20

/**
 * Where the machine has it, the kernel asks the server to stop when the thread that started it ends, so that a killed
 * owner leaves no server behind. Elsewhere the next start stops it.
 */
const SETPRIV = '/usr/bin/setpriv'
const DIES_WITH_OWNER =
  process.platform === 'linux' && existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'INT', '--'] : []

const SETTINGS: Record<string, string | number> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: 100,
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  jit: 'off',
  // Nobody replicates from it; crash safety is the same.
  wal_level: 'minimal',
  max_wal_senders: 0,
  max_wal_size: '1GB',
  checkpoint_timeout: '15min',
  // Few processes and few wake-ups while nothing happens.
  io_method: 'sync',
  max_parallel_workers_per_gather: 0,
  max_logical_replication_workers: 0,
  bgwriter_delay: '10s',
  autovacuum_max_workers: 2,
  log_checkpoints: 'off',
  log_line_prefix: '',
  log_destination: 'stderr',
}

/**
 * Starts it, after creating the cluster at the first time (about 1 s) and stopping one that outlived a killed owner.
 * Throws a HR_POSTGRES_* error with one sentence when it cannot. `log` gets the server's own lines.
 */
export async function startEmbeddedPostgres(options: {
  /** `<data>/postgres`. */
  dataDir: string
  /** Memory for pages of its tables, in MB. */
  buffersMb?: number
  log?: (line: string) => void
}): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir)
  const { log = () => {}, buffersMb = BUFFERS_MB_MIN } = options
  await mkdir(dataDir, { recursive: true })
  const lock = lockOwner(dataDir)
  try {
    const clusterDir = join(dataDir, 'cluster')
    const account = chooseAccount(clusterDir)
    // The account passes through to what is its own; nobody else has business here.
    await chmod(dataDir, account.uid === undefined ? 0o700 : 0o711)
    const programs = await findPrograms(dataDir, account)
    await stopOrphan(clusterDir, log)
    await ensureCluster(clusterDir, programs, account, log)
    const socketDir = embeddedSocketDir(dataDir)
    prepareSocketDir(socketDir, account)
    const server = await startServer({ programs, account, clusterDir, socketDir, buffersMb, log })
    void server.exited.then(() => {
      lock.release()
      leaveSocketDir(dataDir, socketDir)
    })
    return { socketDir, ...server }
  } catch (error) {
    lock.release()
    throw error
  }
}

type Launch = {
  programs: Programs
  account: Account
  clusterDir: string
  socketDir: string
  buffersMb: number
  log: (line: string) => void
}

async function startServer(launch: Launch): Promise<Omit<EmbeddedPostgres, 'socketDir'>> {
  const giveUpAt = performance.now() + LEFTOVERS_GONE_WITHIN_MS
  for (;;) {
    const server = launchServer(launch)
    const ready = await waitUntil(
      () => server.hasExited() || isReady(launch.clusterDir, server.pid),
      READY_WITHIN_MS,
    )
    if (ready && !server.hasExited()) {
      return { pid: server.pid, exited: server.exited, stop: server.stop }
    }
    const words = server.lastWords()
    if (!ready) await server.stop()
    else if (LEFTOVERS.test(words) && performance.now() < giveUpAt) {
      await Bun.sleep(100)
      continue
    }
    throw postgresError('HR_POSTGRES_START', `Postgres did not start in ${launch.clusterDir}: ${words}`)
  }
}

/** Postgres writes its state into line 8 of its pid file. */
function isReady(clusterDir: string, pid: number): boolean {
  try {
    const lines = readFileSync(join(clusterDir, 'postmaster.pid'), 'utf8').split('\n')
    return lines[0] === String(pid) && lines[7]?.trim() === 'ready'
  } catch {
    return false
  }
}

function launchServer({ programs, account, clusterDir, socketDir, buffersMb, log }: Launch) {
  const inside = join(clusterDir, '..', 'socket') === socketDir
  const settings = { ...SETTINGS, shared_buffers: `${buffersMb}MB` }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = Bun.spawn(
    [
      ...DIES_WITH_OWNER,
      programs.postgres,
      '-D',
      CLUSTER_PATH,
      '-k',
      inside ? '../socket' : socketDir,
      ...flags,
    ],
    {
      ...account,
      cwd: clusterDir,
      env: PROGRAM_ENV,
      // Ctrl-C in a terminal goes to the whole group; the order of stopping is ours.
      detached: true,
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'pipe',
    },
  )
  const lastLines: string[] = []
  let exit: PostgresExit | undefined
  const read = readLines(child.stderr, (line) => {
    lastLines.push(line)
    if (lastLines.length > LAST_WORDS_LINES) lastLines.shift()
    log(line)
  })
  const exited = child.exited.then(async () => {
    // Sessions of a killed postmaster hold the pipe a moment longer; the end of the server does not wait for them.
    await Promise.race([read, Bun.sleep(200)])
    const ended = {
      code: child.exitCode,
      signal: child.signalCode === null ? null : String(child.signalCode),
    }
    exit = ended
    return ended
  })
  const hasExited = () => exit !== undefined
  const stop = async () => {
    if (!hasExited()) await stopProcess(child.pid, hasExited)
  }
  return { pid: child.pid, exited, hasExited, stop, lastWords: () => lastLines.join(' / ') }
}

async function readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line) take(line)
  }
  if (rest) take(rest)
}
