/** What an ingest process of a fault test is told at its start. */
import type { PostgresOptions } from '../../../src/catalog/index.ts'

export type WorkerPlan = {
  /** In pg_stat_activity and to the brokers. */
  name: string
  log: { dir: string } | { brokers: string[]; sessionTimeoutMs: number }
  postgres: PostgresOptions['url']
  dataDir: string
  partitions: number
  /** HEADRACE_*. */
  settings: Record<string, string>
}

export const UP_LINE = 'ingest is a member'
