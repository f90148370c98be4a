/**
 * Works off merges of persons with very many distinct ids (identity/move-mappings.ts) and state that must be sent again
 * after a repair (identity/republish.ts), a chunk at a time beside the batches, and sends their rows. Any number of processes may do it; a chunk is given again until its rows
 * were acknowledged. Idle cost: two small queries per look.
 */

import type { Sql } from '../catalog/index.ts'
import { HeadraceError, isRetriable } from '../event/index.ts'
import type { Producer } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { moveMappings, republishState } from './identity/index.ts'
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
  /** How often it looks for work. */
  lookMs?: number
}

export type Mover = {
  /** The partition that it writes now. */
  writing(): number | undefined
  /** Resolves when it does not write `partition`; nobody may give it that one any more. */
  released(partition: number): Promise<void>
  /** Resolves when no chunk is at hand any more. */
  stop(): Promise<void>
}

type Write = { partition: number; done: Promise<unknown> }

/** Begins to look. */
export function startMover(deps: MoverDeps): Mover {
  let stopping = false
  let write: Write | undefined
  let working = Promise.resolve()
  const begin = (begun: Write): void => {
    write = begun
    void begun.done.then(() => {
      if (write === begun) write = undefined
    })
  }
  const timer = setInterval(() => {
    working = working.then(() => (stopping ? undefined : workOff(deps, () => stopping, begin)))
  }, deps.lookMs ?? LOOK_MS)
  return {
    writing: () => write?.partition,
    async released(partition) {
      if (write?.partition === partition) await write.done
    },
    async stop() {
      stopping = true
      clearInterval(timer)
      await working
    },
  }
}

async function workOff(
  deps: MoverDeps,
  stopped: () => boolean,
  begin: (write: Write) => void,
): Promise<void> {
  try {
    while (deps.lane() && !stopped()) {
      const chunk = (await moveMappings(deps.sql, CHUNK_IDS)) ?? (await republishState(deps.sql, CHUNK_IDS))
      // Asked anew, and told before anything else can happen: the partition may be about to go to another process.
      const lane = deps.lane()
      if (!chunk || !lane) return
      const sent = deps.producer.send(stateRecords(chunk.stateRows, lane, 0))
      begin({ partition: lane.partition, done: sent.catch(() => {}) })
      await sent
      await chunk.acknowledge()
      deps.logger.info(
        { rows: chunk.moved },
        'state rows sent beside the batches: moved distinct ids, or a repair',
      )
    }
  } catch (error) {
    // Another process may only be slow to let go of the partition.
    const heldElsewhere = error instanceof HeadraceError && error.code === 'HR_LOG_NOT_WRITER'
    if (!isRetriable(error) && !heldElsewhere) deps.fatal(error)
    else deps.logger.warn(`distinct ids wait to be moved: ${(error as Error).message}`)
  }
}
