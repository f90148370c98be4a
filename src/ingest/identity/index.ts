/**
 * Identity: who did it. In: the events of one batch in offset order. Out: per event the person and groups it is
 * stamped with; in Postgres, in one transaction with the fence and the receipt, everything that the events change
 * about persons, distinct ids and groups; and the state rows that must reach the log.
 *
 * What must hold: invariants I2 and I3. Read → fold → apply is commit.ts; the rules are fold.ts, merge.ts,
 * properties.ts and groups.ts, all pure; the one write is catalog/migrations/0004_apply_batch.sql.
 */
import { guardState, type Sql } from '../../catalog/index.ts'
import { type CommitHooks, commitBatch } from './commit.ts'
import { fold } from './fold.ts'
import { readSnapshot, wantedBy } from './read.ts'
import { readStateRows } from './state-rows.ts'
import type { Identity } from './types.ts'

export type { CommitHooks } from './commit.ts'
export { moveMappings } from './move-mappings.ts'
export * from './types.ts'

/** Two connections are used at once by a batch that speaks of groups. */
export function createIdentity(sql: Sql, hooks: CommitHooks = {}): Identity {
  return {
    commit: (events, position, receipt) => commitBatch(sql, events, position, receipt, hooks),
    restamp: async (events) => {
      if (events.length === 0) return []
      const snapshot = await guardState('reading persons', () => readSnapshot(sql, wantedBy(events)))
      return fold(events, snapshot).stamps
    },
    stateRows: (outbox) => readStateRows(sql, outbox),
  }
}
