/** What `headrace repair` shows: every halt of ingest and load that a repair can mend, or why it cannot. Changes nothing. */
import { HeadraceError, isRetriable } from '../event/index.ts'
import { type GapRepair, refuseWentBack, repairGaps } from './gap.ts'
import { readLanes } from './lanes.ts'
import { type Rewind, type RewindDeps, rewind } from './rewind.ts'

export type Inspection = {
  gaps: GapRepair[]
  /** Undefined while there are gaps, which come first, and when it is refused. */
  rewind: Rewind | undefined
  /** What cannot be mended as it is, a sentence each. */
  refusals: { code: string; message: string }[]
}

/** Throws retriable errors when a part cannot be reached. */
export async function inspect(deps: RewindDeps): Promise<Inspection> {
  const inspection: Inspection = { gaps: [], rewind: undefined, refusals: [] }
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof HeadraceError) || isRetriable(error)) throw error
      inspection.refusals.push({ code: error.code, message: error.message })
    }
  }
  const lanes = await readLanes(deps)
  for (const lane of lanes) await attempt(async () => refuseWentBack(lane))
  const numbers = new Set(
    lanes.filter(({ trouble }) => trouble && trouble !== 'went_back').map(({ partition }) => partition),
  )
  for (const partition of numbers)
    await attempt(async () => {
      inspection.gaps.push(...(await repairGaps(deps, { partition, apply: false })))
    })
  if (inspection.gaps.length === 0 && inspection.refusals.length === 0)
    await attempt(async () => {
      inspection.rewind = await rewind(deps, { apply: false })
    })
  return inspection
}

export function isOutOfStep({ lanes, load }: Rewind): boolean {
  return lanes.length > 0 || load.length > 0
}
