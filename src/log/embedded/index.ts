/**
 * The embedded log: append-only files in one folder, for several processes on one machine. One process at a time
 * writes a partition (the first that sends to it), any number read. A send resolves after fdatasync, and no reader
 * sees a record before. Start with embedded-log.ts; the bytes are in format.ts, the folder in layout.ts, the end of
 * a partition after a crash in recover.ts, durability in group-commit.ts and commit-journal.ts, what dead processes left
 * behind in settlement.ts.
 */
import type { Log } from '../log.ts'
import { EmbeddedLog } from './embedded-log.ts'
import type { EmbeddedLogOptions } from './options.ts'

export type { EmbeddedLogOptions } from './options.ts'

/** Opens the log in `options.dir`, made when it is missing. Keeps the process alive until `close`. */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<Log> {
  return new EmbeddedLog(options)
}
