/** A small file system in memory, for tests of a disk that is really full. Needs a root that may mount. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Mounts one at the folder `path`; `size` as `mount` spells it. Throws what the system says. */
export function mountSmallDisk(path: string, size: string): void {
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path])
  if (status !== 0) throw new Error(`no small disk can be made: ${stderr}`)
}

/** Also while it is in use. */
export function unmountSmallDisk(path: string): void {
  spawnSync('umount', ['-l', path])
}

/** One sentence why no small disk can be had here, or undefined: a container may have the user but not the right. */
export function smallDiskMissing(): string | undefined {
  const probe = join(tmpdir(), `headrace-mount-probe-${process.pid}`)
  mkdirSync(probe)
  try {
    mountSmallDisk(probe, '1m')
    unmountSmallDisk(probe)
    return undefined
  } catch (error) {
    return `it needs a root that may mount: ${(error as Error).message.trim()}`
  } finally {
    rmdirSync(probe)
  }
}
