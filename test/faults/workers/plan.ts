/** What a process of a fault test is told at its start. */
import type { PostgresOptions } from '../../../src/catalog/index.ts'

type Plan = {
  /** In pg_stat_activity and to the brokers. */
  name: string
  log: { dir: string } | { brokers: string[]; sessionTimeoutMs: number }
  postgres: PostgresOptions['url']
  partitions: number
}

export type IngestPlan = Plan & {
  dataDir: string
  /** HEADRACE_*. */
  settings: Record<string, string>
}

export type LoadPlan = Plan & { warehouse: string; flushMs: number }

export const UP_LINE = 'at work'
/** Before the sentence of a role that halts; alone when it is up, and when it goes on. */
export const HALT_LINE = 'halted: '
