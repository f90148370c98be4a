/**
 * A capture process for tests that kill it: HTTP on a free port, the log on `LOG_DIR` (an embedded one whose sends fail
 * while the file DOWN exists), a spool in DATA_DIR. Prints its URL.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readSettings } from '../../catalog/index.ts'
import { openEmbeddedLog } from '../../log/index.ts'
import { createLogger } from '../../observe/index.ts'
import { startCapture } from '../index.ts'

export type ProcessArguments = [logDir: string, dataDir: string]

const [logDir, dataDir] = process.argv.slice(2) as ProcessArguments
const down = join(dataDir, 'DOWN')

/** Down: what was begun hangs until the log is back, and what was written then lands late. */
const operations = {
  fdatasync: async () => {
    while (existsSync(down)) await Bun.sleep(5)
  },
}

const PROJECT = { teamId: 1, settings: {} }
const log = await openEmbeddedLog({ dir: logDir, operations, writerWaitMs: 2_000 })
const capture = await startCapture({
  settings: readSettings(
    {},
    { captureAddress: '127.0.0.1:0', dataDir, captureLogMs: 100, captureAnswerMs: 4_000 },
  ),
  log,
  partitions: 4,
  projects: { known: () => PROJECT, find: async () => PROJECT },
  logger: createLogger('capture', 'silent'),
  onFatal: (error) => {
    console.error(error)
    process.exit(1)
  },
  spool: { checkLog: async () => {}, adoptEveryMs: 200 },
})
console.log(capture.url)
process.on('SIGTERM', async () => {
  const left = await capture.stop(3_000)
  process.exit(left.unanswered + left.spooled > 0 ? 1 : 0)
})
