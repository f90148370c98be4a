/**
 * The cluster: the folder that initdb makes, with our database in it. It is made in a draft that gets its name when
 * it is complete, so a start that was cut off is simply done again.
 */
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Account } from './account.ts'
import { postgresError } from './errors.ts'
import type { Programs } from './programs.ts'

/** Of the programs that we ship; a cluster of another one is not readable for them. */
const MAJOR = '18'

/**
 * How a program must be told where the cluster is. Under a folder that the account may not enter no path works, but
 * the folder that it already works in does: the kernel resolves /proc/self/cwd without walking the parents.
 */
export const CLUSTER_PATH = process.platform === 'linux' ? '/proc/self/cwd' : '.'

export const PROGRAM_ENV = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

export async function ensureCluster(
  clusterDir: string,
  programs: Programs,
  account: Account,
  log: (line: string) => void,
): Promise<void> {
  if (existsSync(clusterDir)) {
    const version = await readFile(join(clusterDir, 'PG_VERSION'), 'utf8').catch(() => 'unknown')
    if (version.trim() === MAJOR) return
    throw postgresError(
      'HR_POSTGRES_FOLDER',
      `${clusterDir} was made by Postgres ${version.trim()}, but this version needs ${MAJOR}; dump it with the old version and restore it`,
    )
  }
  log('creating the Postgres cluster')
  const draft = `${clusterDir}.draft`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { mode: 0o700 })
  await chmod(draft, 0o700)
  if (account.uid !== undefined) await chown(draft, account.uid, account.gid)
  const options = [
    '--username=headrace',
    '--auth-local=trust',
    '--auth-host=reject',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--locale=C',
    '--no-instructions',
  ]
  await run([programs.initdb, '-D', CLUSTER_PATH, ...options], draft, account)
  await run(
    [programs.postgres, '--single', '-D', CLUSTER_PATH, 'template1'],
    draft,
    account,
    'CREATE DATABASE headrace\n',
  )
  await rename(draft, clusterDir)
}

async function run(command: string[], cwd: string, account: Account, input = ''): Promise<void> {
  const child = Bun.spawn(command, {
    ...account,
    cwd,
    env: PROGRAM_ENV,
    stdin: Buffer.from(input),
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  // The single-user server ends with 0 whatever its statement came to.
  if (code === 0 && !/^(ERROR|FATAL|PANIC)|(ERROR|FATAL|PANIC): /m.test(err)) return
  throw postgresError('HR_POSTGRES_START', `${command[0]} failed: ${(err.trim() || out.trim()).slice(-2000)}`)
}
