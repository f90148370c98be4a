/**
 * Keeps a record that the log does not take for its size: in a spool of its own, which nobody claims until a human has
 * removed its `too-large.json`; then it is drained like any other. In: the record, as it was in the spool. Out: nothing;
 * it is durable when the promise resolves, so that the spool's position may pass it. A death in between leaves a copy
 * in each, with the same uuid, of which ingest drops one. Costs a folder and some syncs each: such records are rare.
 */
import { HeadraceError } from '../../event/index.ts'
import { logError, type SendRecord } from '../../log/index.ts'
import type { Logger } from '../../observe/index.ts'
import { SpoolFolder } from './folder.ts'
import { tooLargeTotal } from './metrics.ts'
import type { Reporter } from './reporter.ts'
import { Spool, type SpoolOptions } from './spool.ts'

export type AsideDeps = { dir: string; spool: SpoolOptions; reporter: Reporter; logger: Logger }

/** Throws HR_LOG_UNAVAILABLE, HR_LOG_DISK_FULL (retriable), HR_LOG_SYNC_FAILED; then the record is where it was. */
export async function setAside(deps: AsideDeps, record: SendRecord, why: HeadraceError): Promise<void> {
  let folder: SpoolFolder
  try {
    folder = SpoolFolder.make(deps.dir)
    await keep(deps, folder, record, why)
  } catch (error) {
    if (error instanceof HeadraceError) throw error
    throw logError('HR_LOG_UNAVAILABLE', 'a record that is too large could not be set aside', error)
  }
  tooLargeTotal.inc()
  const docs = 'docs/runbooks/spool.md#too-large'
  deps.logger.error(
    { err: why, spool: folder.path, docs },
    'an event of a spool is larger than the log takes, it was set aside',
  )
}

async function keep(
  { spool: options, reporter }: AsideDeps,
  folder: SpoolFolder,
  record: SendRecord,
  why: HeadraceError,
): Promise<void> {
  try {
    const spool = await Spool.open(folder, options)
    try {
      await spool.append([record])
      // So that an audit lists it for as long as it is there.
      reporter.hold(spool, 'damaged')
      await reporter.letGo(spool)
    } finally {
      await spool.close()
    }
    folder.setAside(why.message)
  } finally {
    folder.release()
  }
}
