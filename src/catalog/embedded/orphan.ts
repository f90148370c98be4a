/**
 * A Postgres that outlived the process that started it (SIGKILL). Called under the owner lock, so whatever still runs
 * in the cluster is an orphan: it is stopped cleanly before a new one starts.
 */
import { readFile, readlink, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { postgresError } from './errors.ts'
import { stopProcess } from './stop-process.ts'

/** Stops the orphan, if there is one. A pid file whose pid is by now another program's is removed. */
export async function stopOrphan(clusterDir: string, log: (line: string) => void): Promise<void> {
  const pidFile = join(clusterDir, 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  if (!Number.isInteger(pid) || pid <= 1 || !isAlive(pid)) return
  if (!(await runsIn(pid, clusterDir))) {
    // Postgres takes any live process of its own user for a rival; after a restart of a container pids come again.
    log(`removing ${pidFile}: process ${pid} is not its server`)
    await rm(pidFile, { force: true })
    return
  }
  log(`stopping Postgres ${pid}, which outlived the process that started it`)
  const gone = await stopProcess(pid, () => !isAlive(pid))
  if (!gone) throw postgresError('HR_POSTGRES_START', `Postgres ${pid} of ${clusterDir} cannot be stopped`)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM'
  }
}

/** True when `pid` is a server of this cluster. Postgres works in its cluster's folder. */
async function runsIn(pid: number, clusterDir: string): Promise<boolean> {
  if (process.platform === 'linux') {
    const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined)
    return folder === (await realpath(clusterDir))
  }
  const { stdout } = Bun.spawnSync(['ps', '-o', 'command=', '-p', String(pid)])
  return stdout.toString().includes(clusterDir)
}
