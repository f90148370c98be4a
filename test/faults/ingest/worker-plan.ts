/** What a process of a fault test of ingest is told at its start. */
import type { PostgresOptions } from '../../../src/catalog/index.ts'

type Plan = {
  /** In pg_stat_activity and to the brokers. */
  name: string
  log: { dir: string } | { brokers: string[]; sessionTimeoutMs: number }
  postgres: PostgresOptions['url']
  partitions: number
}

export type WorkerPlan = Plan & {
  dataDir: string
  /** HEADRACE_*. */
  settings: Record<string, string>
}

export type LoaderPlan = Plan & { warehouse: string }

export const UP_LINE = 'at work'
/** Before the sentence of a role that halts; alone when it is up, and when it goes on. */
export const HALT_LINE = 'halted: '
