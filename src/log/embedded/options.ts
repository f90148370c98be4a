/** What an embedded log can be told, with the limits of everything that grows. */
import { fdatasync, statfsSync } from 'node:fs'

/** The operations that fault tests replace: the sync that makes records durable, and the look at the disk. */
export type FileOperations = {
  fdatasync(fd: number): Promise<void>
  /** Part of the disk that is used, 0 … 1, as `df` counts it. */
  diskUsedRatio(dir: string): number
  /** Changes with every start of the machine: what was only in memory then is gone. */
  bootId?: string
}

export type EmbeddedLogOptions = {
  /** Folder of this log; made when it is missing. Must be on a local file system (flock, inotify). */
  dir: string
  /** A segment is closed when the next commit would make it larger than this. */
  segmentBytes?: number
  /** Largest commit of one partition, unless a single send is larger. */
  commitBytesMax?: number
  /** Records waiting for their commit, over all partitions; sends beyond are refused with HR_LOG_UNAVAILABLE. */
  queueBytesMax?: number
  /** Sends are refused with HR_LOG_DISK_FULL while more than this part of the disk is used. */
  diskUsedRatioMax?: number
  /**
   * Each of the two halves of the commit journal that a process which writes several partitions keeps. A commit that
   * is larger is synced file by file. Whole blocks of 4096 bytes.
   */
  journalHalfBytes?: number
  /** When the journal could not be made, it is tried again after this long. */
  journalRetryMs?: number
  /** How long to wait for a dying predecessor to let go of a partition. */
  writerWaitMs?: number
  /** A waiting reader looks at the durable end this often even when nobody woke it. */
  pollMs?: number
  /** How often the members of a group look for one that died. */
  memberPollMs?: number
  /** How often retention runs in a process that has a producer. */
  retentionEveryMs?: number
  /** Told in one sentence what an operator should know: damage that was found, a commit that was cut off. */
  warn?: (sentence: string) => void
  operations?: Partial<FileOperations>
}

export type Limits = Required<Omit<EmbeddedLogOptions, 'dir' | 'operations' | 'warn'>>

export const LIMITS: Limits = {
  segmentBytes: 64 * 2 ** 20,
  commitBytesMax: 4 * 2 ** 20,
  queueBytesMax: 64 * 2 ** 20,
  diskUsedRatioMax: 0.9,
  journalHalfBytes: 8 * 2 ** 20,
  journalRetryMs: 60_000,
  writerWaitMs: 10_000,
  pollMs: 1_000,
  memberPollMs: 500,
  retentionEveryMs: 60_000,
}

export const OPERATIONS: FileOperations = {
  fdatasync: (fd) =>
    new Promise((resolve, reject) => fdatasync(fd, (error) => (error ? reject(error) : resolve()))),
  diskUsedRatio(dir) {
    const disk = statfsSync(dir)
    const used = disk.blocks - disk.bfree
    return used / Math.max(1, used + disk.bavail)
  },
}
