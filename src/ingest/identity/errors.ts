/** What only the identity step can refuse; everything else is one of the state's errors. */
import { errorTable } from '../../event/index.ts'

export const IDENTITY_ERRORS = {
  HR_INGEST_FENCE: {
    class: 'fatal',
    meaning:
      'The fence of this partition does not stand where the batch begins, or another process has opened the partition since: another owner is at work, or the answer to an earlier try was lost. Open the partition again; what was applied is replayed.',
  },
} as const

export const identityError = errorTable(IDENTITY_ERRORS)

/** A batch comes to more than one may hold in memory: it must be cut before it is applied. Never of one event. */
export class BatchTooLarge extends Error {
  override readonly name = 'BatchTooLarge'
}
