/**
 * What holds for the cookieless events of a batch: whether any are taken, the time, and the secrets of the days. Postgres
 * is asked for these only where a project of the batch takes such events. Cost: nothing else; at the first need of a day
 * two or three round trips.
 */
import type { IngestProject } from '../project-options.ts'
import type { JudgeFacts } from './judge.ts'
import type { DaySalts, Salts } from './salts.ts'

const NO_SALTS: DaySalts = new Map()

/** By the projects of the batch. Throws retriable state errors when a secret is needed and Postgres is away. */
export type FactsOf = (projects: Iterable<IngestProject>) => Promise<JudgeFacts>

export function factsFrom(deps: { enabled: boolean; salts: Salts; now: () => number }): FactsOf {
  const { enabled, salts, now } = deps
  return async (projects) => {
    const nowMs = now()
    const taken = enabled && [...projects].some(({ options }) => options.cookieless !== 'off')
    return { enabled, nowMs, salts: taken ? await salts.open(nowMs) : NO_SALTS }
  }
}
