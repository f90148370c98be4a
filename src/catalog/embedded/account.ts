/**
 * Who runs the embedded Postgres. It refuses root, so root gives it to an unprivileged account: the owner of the
 * cluster when there is one, else the user `headrace` when the machine has it, else `nobody`. Anyone else runs it
 * as themselves.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { postgresError } from './errors.ts'

/** Undefined fields of a spawn: "as ourselves". */
export type Account = { uid: number; gid: number } | Record<string, never>

/** Throws HR_POSTGRES_FOLDER when the cluster belongs to somebody that we may not become. */
export function chooseAccount(clusterDir: string): Account {
  const self = process.geteuid?.() ?? 0
  const owner = existsSync(clusterDir) ? statSync(clusterDir) : undefined
  if (self !== 0) {
    if (owner && owner.uid !== self) {
      throw postgresError(
        'HR_POSTGRES_FOLDER',
        `${clusterDir} belongs to uid ${owner.uid}, but this process runs as uid ${self}; start it as that user or as root`,
      )
    }
    return {}
  }
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const users = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['headrace', 'nobody']) {
    const fields = users.find((line) => line.startsWith(`${name}:`))?.split(':')
    // macOS writes nobody as -2.
    if (fields?.[2] && fields[3]) return { uid: Number(fields[2]) >>> 0, gid: Number(fields[3]) >>> 0 }
  }
  throw postgresError(
    'HR_POSTGRES_START',
    'Postgres refuses root and this machine has neither a user "headrace" nor "nobody"; add one or start as an ordinary user',
  )
}
