/**
 * Committed offsets of a group, durable: a file per topic and log id, 64 bytes per partition, two copies of which
 * the older one is overwritten, so that a write that was cut off leaves the one before. Only the member that holds
 * a partition's lease writes its place. Cost of a commit: one small write and one fdatasync per topic.
 * ```
 * copy   u64 offset · u64 number of the commit · … · u32 crc at 28          (32 bytes, twice)
 * ```
 */
import { closeSync, constants, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { crc, getU64, putU64 } from './format.ts'
import { type Layout, makeDir, syncDir } from './layout.ts'
import type { FileOperations } from './options.ts'

const COPY_BYTES = 32
const PLACE_BYTES = 2 * COPY_BYTES

type Copy = { offset: number; commit: number; copy: number }

function newest(bytes: Buffer): Copy | undefined {
  let best: Copy | undefined
  for (let copy = 0; copy < 2; copy++) {
    const at = copy * COPY_BYTES
    if (bytes.readUInt32LE(at + 28) !== crc(bytes, at, at + 28)) continue
    const commit = getU64(bytes, at + 8)
    if (!best || commit > best.commit) best = { offset: getU64(bytes, at), commit, copy }
  }
  return best
}

function readPlace(fd: number, partition: number): Copy | undefined {
  const bytes = Buffer.alloc(PLACE_BYTES)
  readSync(fd, bytes, 0, PLACE_BYTES, partition * PLACE_BYTES)
  return newest(bytes)
}

/** The offset that the group committed; undefined when it never did. */
export function readPosition(
  layout: Layout,
  group: string,
  topic: string,
  logId: string,
  partition: number,
): number | undefined {
  let fd: number
  try {
    fd = openSync(layout.positions(group, topic, logId), 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    return readPlace(fd, partition)?.offset
  } finally {
    closeSync(fd)
  }
}

/** The lowest offset that any group committed: retention must not pass it. Undefined when no group did. */
export function lowestPosition(
  layout: Layout,
  topic: string,
  logId: string,
  partition: number,
): number | undefined {
  let lowest: number | undefined
  for (const group of groupNames(layout)) {
    const offset = readPosition(layout, group, topic, logId, partition)
    if (offset !== undefined && (lowest === undefined || offset < lowest)) lowest = offset
  }
  return lowest
}

function groupNames(layout: Layout): string[] {
  try {
    return readdirSync(layout.groups())
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Forgets what all groups committed for a topic that was deleted. */
export function forgetPositions(layout: Layout, topic: string, logId: string): void {
  for (const group of groupNames(layout)) rmSync(layout.positions(group, topic, logId), { force: true })
}

/** The commits of one member to one topic. */
export class PositionFile {
  private readonly fd: number

  constructor(layout: Layout, group: string, topic: string, logId: string) {
    const path = layout.positions(group, topic, logId)
    makeDir(join(layout.group(group), 'positions'))
    this.fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644)
    syncDir(dirname(path))
  }

  /** Resolves when the offsets are durable. */
  async commit(offsets: Map<number, number>, operations: FileOperations): Promise<void> {
    for (const [partition, offset] of offsets) {
      const before = readPlace(this.fd, partition)
      const bytes = Buffer.alloc(COPY_BYTES)
      putU64(bytes, 0, offset)
      putU64(bytes, 8, (before?.commit ?? 0) + 1)
      bytes.writeUInt32LE(crc(bytes, 0, 28), 28)
      const copy = before ? 1 - before.copy : 0
      writeSync(this.fd, bytes, 0, COPY_BYTES, partition * PLACE_BYTES + copy * COPY_BYTES)
    }
    await operations.fdatasync(this.fd)
  }

  close(): void {
    closeSync(this.fd)
  }
}
