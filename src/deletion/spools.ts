/** What waits in spools of capture is not in the raw log yet, and a deletion does not wait for it. */
import { listSpools } from '../catalog/index.ts'
import type { DeletionDeps } from './carry-out.ts'

export async function sayOfSpools(
  { sql, says }: Pick<DeletionDeps, 'sql' | 'says'>,
  then: string,
): Promise<void> {
  const waiting = (await listSpools(sql)).reduce((sum, spool) => sum + spool.accepted - spool.drained, 0)
  if (waiting > 0) says(`${waiting} events wait in spools of capture; ${then}`)
}
