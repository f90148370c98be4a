/**
 * Identity: who did it. In: the events of one batch in offset order. Out: per event the person and groups it is
 * stamped with; in Postgres, in one transaction with the fence and the receipt, everything that the events change
 * about persons, distinct ids and groups; and the state rows that must reach the log.
 *
 * What must hold: invariants I2 and I3. Read → fold → apply is commit.ts; the rules are fold.ts, merge.ts,
 * properties.ts and groups.ts, all pure; the one write is catalog/migrations/0007_identity_options.sql, with that of
 * cookieless visitors (0008_cookieless.sql).
 */
import { guardState, type Sql } from '../../catalog/index.ts'
import { commitBatch } from './commit.ts'
import { Contended } from './contended.ts'
import { BatchTooLarge } from './errors.ts'
import { fold } from './fold.ts'
import type { CommitHooks } from './job.ts'
import { defaultOptions, type OptionsOf } from './options.ts'
import { readSnapshot } from './read.ts'
import { readStateRows } from './state-rows.ts'
import { Turns } from './turns.ts'
import type { Identity, IdentityEvent, Stamp } from './types.ts'
import { wantedBy } from './wanted.ts'

export { BatchTooLarge } from './errors.ts'
export type { CommitHooks } from './job.ts'
export { moveMappings } from './move-mappings.ts'
export { DEFAULT_OPTIONS } from './options.ts'
export { republishState } from './republish.ts'
export * from './types.ts'

/** A batch uses a connection more at once when it speaks of groups, and one more when it has cookieless visitors. */
export function createIdentity(sql: Sql, hooks: CommitHooks = {}, turnMsMax?: number): Identity {
  const shared = { sql, hooks, turns: new Turns(turnMsMax), contended: new Contended() }
  return {
    commit: (events, position, receipt, context) => commitBatch(shared, events, position, receipt, context),
    restamp: (events, optionsOf = defaultOptions) =>
      guardState('reading persons', () => restamp(sql, events, optionsOf)),
    stateRows: (outbox) => readStateRows(sql, outbox),
  }
}

/** The state has all effects of the batch already, so one that is too large for one read can be stamped in parts. */
async function restamp(sql: Sql, events: IdentityEvent[], optionsOf: OptionsOf): Promise<Stamp[]> {
  if (events.length === 0) return []
  try {
    return fold(events, await readSnapshot(sql, wantedBy(events)), optionsOf).stamps
  } catch (error) {
    if (!(error instanceof BatchTooLarge) || events.length === 1) throw error
    const middle = events.length >> 1
    const first = await restamp(sql, events.slice(0, middle), optionsOf)
    return [...first, ...(await restamp(sql, events.slice(middle), optionsOf))]
  }
}
