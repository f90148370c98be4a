/**
 * Where the roles of one data folder answer health: a Unix socket per role in `<data>/run`, open to its owner only.
 * A socket path may have 107 bytes at most (103 on macOS), so a deep data folder gets its sockets in the system's
 * temporary folder, under a name made of the folder's.
 */
import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { supervisorError } from './errors.ts'

const SOCKET_BYTES_MAX = 100
/** The longest name that we put in the folder: `/warehouse-4194304.sock`. */
const NAME_BYTES_MAX = 24

export const ROLES = ['capture', 'ingest', 'load', 'deliver', 'warehouse'] as const
export type Role = (typeof ROLES)[number]

/** The folder of the sockets, not made yet. */
export function runFolder(dataDir: string): string {
  const full = resolve(dataDir)
  const natural = join(full, 'run')
  if (Buffer.byteLength(natural) + NAME_BYTES_MAX <= SOCKET_BYTES_MAX) return natural
  return join(tmpdir(), `headrace-${createHash('sha1').update(full).digest('hex').slice(0, 16)}`)
}

/** Makes the folder, readable by its owner only. Refuses one of somebody else: the temporary folder is everybody's. */
export function makeRunFolder(dataDir: string): string {
  const folder = runFolder(dataDir)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const found = lstatSync(folder)
  if (!found.isDirectory() || found.uid !== (process.geteuid?.() ?? found.uid)) {
    throw supervisorError(
      'HR_SUPERVISOR_RUN_FOLDER',
      `${folder} belongs to somebody else, so our sockets cannot be in it`,
    )
  }
  return folder
}

/** The socket of a role: of the supervised one, or of the one with this pid that was started alone. */
export function roleSocket(dataDir: string, role: Role, pid?: number): string {
  return join(runFolder(dataDir), pid === undefined ? `${role}.sock` : `${role}-${pid}.sock`)
}

export type RoleSocket = {
  role: Role
  path: string
  /** Of a role that was started alone; undefined for the supervised one. */
  pid: number | undefined
}

/** The sockets in the folder, without those that a dead process left behind. */
export function listRoleSockets(dataDir: string): RoleSocket[] {
  const folder = runFolder(dataDir)
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch {
    return []
  }
  const found: RoleSocket[] = []
  for (const name of names.sort()) {
    const match = /^([a-z]+)(?:-(\d+))?\.sock$/.exec(name)
    const role = ROLES.find((r) => r === match?.[1])
    const pid = match?.[2] === undefined ? undefined : Number(match[2])
    if (role && (pid === undefined || isAlive(pid))) found.push({ role, path: join(folder, name), pid })
  }
  return found
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Asks a role over its socket. Rejects when nobody answers within `timeoutMs`. */
export async function askRole(
  socket: string,
  path: '/_liveness' | '/_readiness' | '/metrics',
  timeoutMs: number,
): Promise<{ ok: boolean; text: string }> {
  const response = await fetch(`http://role${path}`, {
    unix: socket,
    signal: AbortSignal.timeout(timeoutMs),
    keepalive: false,
  })
  return { ok: response.ok, text: await response.text() }
}
