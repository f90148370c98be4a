/**
 * Works off merges of persons with very many distinct ids (identity/move-mappings.ts), a chunk at a time beside the
 * batches, and sends their override rows. Any number of processes may do it; a chunk is given again until its rows
 * were acknowledged. Idle cost: one small query per look.
 */

import type { Sql } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import type { Producer } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { moveMappings } from './identity/index.ts'
import { type OutputLane, stateRecords } from './output.ts'

const LOOK_MS = 5_000
const CHUNK_IDS = 1_000

export type MoverDeps = {
  sql: Sql
  producer: Producer
  logger: Logger
  /** A partition that this process may write now; undefined when it owns none. */
  lane(): OutputLane | undefined
  fatal(error: unknown): void
}

/** Begins to look; `stop` resolves when no chunk is at hand any more. */
export function startMover(deps: MoverDeps): { stop(): Promise<void> } {
  let stopping = false
  let working = Promise.resolve()
  const timer = setInterval(() => {
    working = working.then(() => (stopping ? undefined : workOff(deps, () => stopping)))
  }, LOOK_MS)
  return {
    async stop() {
      stopping = true
      clearInterval(timer)
      await working
    },
  }
}

async function workOff(deps: MoverDeps, stopped: () => boolean): Promise<void> {
  try {
    for (let lane = deps.lane(); lane && !stopped(); lane = deps.lane()) {
      const chunk = await moveMappings(deps.sql, CHUNK_IDS)
      if (!chunk) return
      await deps.producer.send(stateRecords(chunk.stateRows, lane, 0))
      await chunk.acknowledge()
      deps.logger.info({ ids: chunk.moved }, 'distinct ids moved to the person that theirs was merged into')
    }
  } catch (error) {
    if (!isRetriable(error)) deps.fatal(error)
    else deps.logger.warn(`distinct ids wait to be moved: ${(error as Error).message}`)
  }
}
