/**
 * The Postgres of a fault test, as others run one: on TCP, behind an address that stays when the server behind it
 * changes. It can be stopped, killed and started again on its folder, and fail over to a standby that had been
 * replicating synchronously, so that nothing committed is missing there.
 */
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { chooseAccount } from '../../../src/catalog/embedded/account.ts'
import { CLUSTER_PATH, ensureCluster, PROGRAM_ENV } from '../../../src/catalog/embedded/cluster.ts'
import { findPrograms, type Programs } from '../../../src/catalog/embedded/programs.ts'
import { prepareSocketDir } from '../../../src/catalog/embedded/socket.ts'
import { freePorts } from '../../support/product.ts'
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts'
import { waitFor } from '../../support/wait-for.ts'

const START_MS_MAX = 60_000
const STOP_MS_MAX = 10_000
/** Of what a server said that did not start. */
const LINES_UNITS_MAX = 2_000
const FLAGS: Readonly<Record<string, string | number>> = {
  max_connections: 100,
  shared_buffers: '64MB',
  wal_level: 'replica',
  max_wal_senders: 4,
  // A standby begins with a copy of the files and reads the rest from here.
  wal_keep_size: '1GB',
}
/** Where the machine has it, the kernel stops the server when we are gone. */
const SETPRIV = '/usr/bin/setpriv'
const DIES_WITH_US = existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'INT', '--'] : []

export class PostgresServer {
  private standby: Node | undefined

  private constructor(
    readonly url: string,
    private primary: Node,
    private readonly proxy: TcpProxy,
    private readonly target: { host: string; port: number },
  ) {}

  static async start(): Promise<PostgresServer> {
    const password = randomBytes(12).toString('hex')
    const node = await Node.create(password)
    const target = { host: '127.0.0.1', port: node.port }
    const proxy = await startTcpProxy({ target })
    const url = `postgres://headrace:${password}@127.0.0.1:${proxy.port}/headrace`
    const server = new PostgresServer(url, node, proxy, target)
    try {
      await node.start()
      await node.ask((sql) => sql.unsafe(`ALTER ROLE headrace PASSWORD '${password}'`))
    } catch (error) {
      await server.remove()
      throw error
    }
    return server
  }

  /** The account that it runs as. */
  get uid(): number {
    return this.primary.uid
  }

  start(): Promise<void> {
    return this.primary.start()
  }

  /** Rolls back what is open. */
  stop(): Promise<void> {
    return this.primary.end('SIGINT')
  }

  /** SIGKILL of its first process; the others see it and go. */
  kill(): Promise<void> {
    return this.primary.end('SIGKILL')
  }

  /** From now on a commit is acknowledged when a standby has it too. */
  async replicate(): Promise<void> {
    this.standby = await this.primary.copy()
    await this.standby.start()
    await this.primary.ask((sql) => sql.unsafe("ALTER SYSTEM SET synchronous_standby_names = '*'"))
    await this.primary.ask((sql) => sql`SELECT pg_reload_conf()`)
    await waitFor(
      'synchronous standby',
      async () => {
        const rows = await this.primary.ask((sql) => sql`SELECT sync_state FROM pg_stat_replication`)
        return rows.some((row) => row.sync_state === 'sync')
      },
      START_MS_MAX,
    )
  }

  /** After `replicate`: the primary dies, the standby takes its place and its address. */
  async failOver(): Promise<void> {
    const standby = this.standby!
    await this.kill()
    await this.replaceBy(standby)
    this.standby = undefined
  }

  /** `node` runs as a standby. */
  private async replaceBy(node: Node): Promise<void> {
    await node.ask((sql) => sql`SELECT pg_promote(true, 30)`)
    this.target.port = node.port
    this.proxy.cutAll()
    await this.primary.remove()
    this.primary = node
  }

  /** A backup of it as it is now. */
  async save(): Promise<Node> {
    const backup = await this.primary.copy()
    await backup.start()
    const [row] = await this.primary.ask((sql) => sql`SELECT pg_current_wal_lsn()::text AS lsn`)
    await waitFor(
      'backup of Postgres',
      async () => {
        const [at] = await backup.ask(
          (sql) => sql`SELECT pg_last_wal_replay_lsn() >= ${row!.lsn}::pg_lsn AS "isThere"`,
        )
        return at!.isThere === true
      },
      START_MS_MAX,
    )
    await backup.end('SIGINT')
    return backup
  }

  /** The server dies, and what was saved takes its place and its address. */
  async restore(backup: Node): Promise<void> {
    await this.kill()
    await backup.start()
    await this.replaceBy(backup)
  }

  async remove(): Promise<void> {
    await this.proxy.close()
    await this.standby?.remove()
    await this.primary.remove()
  }
}

/** One server on its folder and port. */
class Node {
  private child: Bun.Subprocess | undefined

  private constructor(
    readonly folder: string,
    readonly port: number,
    private readonly password: string,
    private readonly programs: Programs,
    private readonly flags: Readonly<Record<string, string | number>>,
  ) {}

  static async create(password: string): Promise<Node> {
    const node = await Node.inNewFolder(password, FLAGS)
    await ensureCluster(node.cluster, node.programs, chooseAccount(node.cluster), () => {})
    const access = ['local all all trust', 'host all,replication all 127.0.0.1/32 scram-sha-256', '']
    await writeFile(join(node.cluster, 'pg_hba.conf'), access.join('\n'))
    return node
  }

  private static async inNewFolder(
    password: string,
    flags: Readonly<Record<string, string | number>>,
  ): Promise<Node> {
    const folder = await mkdtemp(join(tmpdir(), 'headrace-faults-postgres-'))
    const account = chooseAccount(join(folder, 'cluster'))
    if (account.uid !== undefined) await chmod(folder, 0o711)
    prepareSocketDir(join(folder, 'socket'), account)
    const [port] = freePorts(1)
    return new Node(folder, port!, password, await findPrograms(folder, account), flags)
  }

  get uid(): number {
    return statSync(this.cluster).uid
  }

  /** What it says. */
  private get lines(): string {
    return join(this.folder, 'lines.log')
  }

  private get cluster(): string {
    return join(this.folder, 'cluster')
  }

  async start(): Promise<void> {
    // The sessions of a killed server may still be on their way out.
    await waitFor(
      'start of Postgres',
      async () => {
        const child = this.launch()
        this.child = child
        while (child.exitCode === null && !this.isReady(child.pid)) await Bun.sleep(10)
        return child.exitCode === null
      },
      START_MS_MAX,
      () => readFileSync(this.lines, 'utf8').slice(-LINES_UNITS_MAX),
    )
  }

  private launch(): Bun.Subprocess {
    const flags = Object.entries(this.flags).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const place = ['-D', CLUSTER_PATH, '-k', '../socket', '-h', '127.0.0.1', '-p', String(this.port)]
    return Bun.spawn([...DIES_WITH_US, this.programs.postgres, ...place, ...flags], {
      ...chooseAccount(this.cluster),
      cwd: this.cluster,
      env: PROGRAM_ENV,
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: Bun.file(this.lines),
    })
  }

  /** It writes its state into line 8 of its pid file: `ready`, or `standby`. */
  private isReady(pid: number): boolean {
    const path = join(this.cluster, 'postmaster.pid')
    if (!existsSync(path)) return false
    const lines = readFileSync(path, 'utf8').split('\n')
    return lines[0] === String(pid) && /^(ready|standby)/.test(lines[7] ?? '')
  }

  async end(signal: 'SIGINT' | 'SIGKILL'): Promise<void> {
    const { child } = this
    if (!child) return
    child.kill(signal)
    const stuck = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
    await child.exited
    clearTimeout(stuck)
    this.child = undefined
  }

  /** A standby of this server, not started. */
  async copy(): Promise<Node> {
    const conninfo = `host=127.0.0.1 port=${this.port} user=headrace password=${this.password}`
    const copy = await Node.inNewFolder(this.password, { ...this.flags, primary_conninfo: conninfo })
    await this.ask(async (sql) => {
      await sql`SELECT pg_backup_start('standby', true)`
      const copied = Bun.spawnSync(['cp', '-a', this.cluster, copy.cluster])
      const [row] = await sql<{ labelfile: string }[]>`SELECT labelfile FROM pg_backup_stop(false)`
      if (!existsSync(join(copy.cluster, 'PG_VERSION'))) throw new Error(String(copied.stderr))
      writeFileSync(join(copy.cluster, 'backup_label'), row!.labelfile)
    })
    for (const name of ['postmaster.pid', 'postmaster.opts'])
      rmSync(join(copy.cluster, name), { force: true })
    // A piece of it may be half copied; it comes again from the primary.
    const wal = join(copy.cluster, 'pg_wal')
    for (const name of readdirSync(wal)) if (/^[0-9A-F]{24}$/.test(name)) rmSync(join(wal, name))
    writeFileSync(join(copy.cluster, 'standby.signal'), '')
    const { uid, gid } = statSync(this.cluster)
    for (const name of ['backup_label', 'standby.signal']) chownSync(join(copy.cluster, name), uid, gid)
    return copy
  }

  /** Over its socket, with one connection. */
  async ask<T>(question: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
    const path = join(this.folder, 'socket', `.s.PGSQL.${this.port}`)
    const sql = postgres({ path, user: 'headrace', database: 'headrace', max: 1, onnotice: () => {} })
    try {
      return await question(sql)
    } finally {
      await sql.end({ timeout: 1 })
    }
  }

  async remove(): Promise<void> {
    await this.end('SIGINT')
    await rm(this.folder, { recursive: true, force: true })
  }
}
