/**
 * Where the embedded Postgres listens: a Unix socket in a folder of mode 0700, never TCP. Everyone who knows the data
 * folder finds it, so the place is a function of the data folder alone. A socket's path holds some 103 bytes; a data
 * folder that is too deep gets a folder in the system's temporary folder instead, named by a hash.
 */
import { createHash } from 'node:crypto'
import { chmodSync, chownSync, lstatSync, mkdirSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Account } from './account.ts'
import { postgresError } from './errors.ts'

/** macOS has 104 with the final zero, Linux 108. */
const SOCKET_PATH_BYTES_MAX = 103

/** Folder of the socket of the Postgres in `dataDir` (`<data>/postgres`). */
export function embeddedSocketDir(dataDir: string): string {
  const inside = join(resolve(dataDir), 'socket')
  if (Buffer.byteLength(join(inside, '.s.PGSQL.5432')) <= SOCKET_PATH_BYTES_MAX) return inside
  const hash = createHash('sha256').update(resolve(dataDir)).digest('hex').slice(0, 16)
  return join(tmpdir(), `headrace-${hash}`)
}

/** Creates it for `account` alone. Refuses one that somebody else put there: the temporary folder is everybody's. */
export function prepareSocketDir(socketDir: string, account: Account): void {
  const self = process.geteuid?.() ?? 0
  const owner = account.uid ?? self
  try {
    mkdirSync(socketDir, { mode: 0o700 })
  } catch (cause) {
    const found = lstatSync(socketDir, { throwIfNoEntry: false })
    if (!found?.isDirectory() || (found.uid !== owner && found.uid !== self)) {
      throw postgresError(
        'HR_POSTGRES_FOLDER',
        `${socketDir} cannot be the socket's folder: ${found ? 'it belongs to somebody else' : (cause as Error).message}`,
        cause,
      )
    }
  }
  if (account.uid !== undefined) chownSync(socketDir, account.uid, account.gid)
  chmodSync(socketDir, 0o700)
}

/** Leaves nothing in the system's temporary folder, unless a killed server's socket is still in it. */
export function leaveSocketDir(dataDir: string, socketDir: string): void {
  if (socketDir.startsWith(resolve(dataDir))) return
  try {
    rmdirSync(socketDir)
  } catch {
    // The next start takes it over.
  }
}
