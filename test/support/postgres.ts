/**
 * A real Postgres for a test file: the embedded server in a folder of its own, with the schema of this version.
 *
 *   setDefaultTimeout(60_000)
 *   let postgres: TestPostgres
 *   beforeAll(async () => { postgres = await startTestPostgres() })
 *   afterAll(() => postgres.stop())
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { chooseAccount } from '../../src/catalog/embedded/account.ts'
import { CLUSTER_PATH, ensureCluster, PROGRAM_ENV } from '../../src/catalog/embedded/cluster.ts'
import { findPrograms } from '../../src/catalog/embedded/programs.ts'
import { prepareSocketDir } from '../../src/catalog/embedded/socket.ts'
import { waitUntil } from '../../src/catalog/embedded/wait.ts'
import { migrateState, openPostgres, type Sql, startEmbeddedPostgres } from '../../src/catalog/index.ts'

export type TestPostgres = {
  sql: Sql
  /** For openPostgres, when a test wants a pool of its own. */
  url: { socketDir: string }
  /** Of the postmaster, for tests that kill it. */
  pid: number
  dataDir: string
  /** SIGKILL; resolves when it is gone. The folder can be started again with startEmbeddedPostgres. */
  kill(): Promise<void>
  stop(): Promise<void>
}

/** About 1.3 s, most of it initdb. */
export async function startTestPostgres(
  options: { migrate?: boolean; buffersMb?: number } = {},
): Promise<TestPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'headrace-test-postgres-'))
  const { buffersMb } = options
  const server = await startEmbeddedPostgres({ dataDir, ...(buffersMb !== undefined && { buffersMb }) })
  const url = { socketDir: server.socketDir }
  const sql = openPostgres({ url, name: 'test', connectionsMax: 10 })
  const stop = async () => {
    await sql.end({ timeout: 1 })
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
  try {
    if (options.migrate !== false) await migrateState(sql)
  } catch (error) {
    await stop()
    throw error
  }
  const kill = async () => {
    process.kill(server.pid, 'SIGKILL')
    await server.exited
  }
  return { sql, url, pid: server.pid, dataDir, kill, stop }
}

/** A Postgres as others run one: on TCP, with a password. */
export type UrlPostgres = { url: string; pid: number; stop(): Promise<void> }

/** For tests of the distributed form. Its superuser owns database `headrace`; nothing is migrated. */
export async function startPostgresByUrl(): Promise<UrlPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'headrace-test-postgres-'))
  const clusterDir = join(dataDir, 'cluster')
  const account = chooseAccount(clusterDir)
  if (account.uid !== undefined) await chmod(dataDir, 0o711)
  const programs = await findPrograms(dataDir, account)
  await ensureCluster(clusterDir, programs, account, () => {})
  await writeFile(
    join(clusterDir, 'pg_hba.conf'),
    'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n',
  )
  prepareSocketDir(join(dataDir, 'socket'), account)
  const port = freePort()
  const child = Bun.spawn(
    [programs.postgres, '-D', CLUSTER_PATH, '-k', '../socket', '-h', '127.0.0.1', '-p', String(port)],
    { ...account, cwd: clusterDir, env: PROGRAM_ENV, stdio: ['ignore', 'ignore', 'ignore'] },
  )
  const stop = async () => {
    child.kill('SIGINT')
    await child.exited
    await rm(dataDir, { recursive: true, force: true })
  }
  const password = randomBytes(12).toString('hex')
  const url = `postgres://headrace:${password}@127.0.0.1:${port}/headrace`
  const isReady = () => {
    const pidFile = join(clusterDir, 'postmaster.pid')
    return existsSync(pidFile) && readFileSync(pidFile, 'utf8').includes('\nready')
  }
  const sql = postgres({
    path: join(dataDir, 'socket', `.s.PGSQL.${port}`),
    user: 'headrace',
    database: 'headrace',
    max: 1,
  })
  try {
    if (!(await waitUntil(isReady, 20_000))) throw new Error('the Postgres of this test did not start')
    await sql.unsafe(`ALTER ROLE headrace PASSWORD '${password}'`)
  } catch (error) {
    await stop()
    throw error
  } finally {
    await sql.end({ timeout: 1 })
  }
  return { url, pid: child.pid, stop }
}

function freePort(): number {
  const listener = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } })
  const { port } = listener
  listener.stop(true)
  return port
}
