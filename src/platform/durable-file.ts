/** Files and folders that outlive a power cut: what these functions made is on the disk when they return. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/** Makes the names in a folder durable. */
export function syncDir(dir: string): void {
  const fd = openSync(dir, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Makes a folder and its missing parents, durably. */
export function makeDir(dir: string): void {
  const made = mkdirSync(dir, { recursive: true })
  if (made === undefined) return
  for (let at = dir; ; at = dirname(at)) {
    syncDir(dirname(at))
    if (at === made || dirname(at) === at) return
  }
}

/** Writes a whole file that is either there with all its bytes or not at all, whatever happens. */
export function writeDurably(path: string, bytes: Uint8Array): void {
  const temporary = `${path}.${process.pid}.new`
  const fd = openSync(temporary, 'w')
  try {
    writeFully(fd, bytes, 0)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  syncDir(dirname(path))
}

/** write(2) may take less than it is given. */
export function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, position + at)
}
