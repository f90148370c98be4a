/** What a loader of a fault test is told at its start. */
import type { PostgresOptions } from '../../../src/catalog/index.ts'

export type WorkerPlan = {
  /** In pg_stat_activity and to the brokers. */
  name: string
  log: { dir: string } | { brokers: string[]; sessionTimeoutMs: number }
  postgres: PostgresOptions['url']
  warehouseUrl: string
  partitions: number
  flushMs: number
}

export const UP_LINE = 'load is a member'
