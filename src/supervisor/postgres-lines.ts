/**
 * How severe a line of the Postgres server is for us. Its own LOG lines are the usual life of a server; an ERROR is
 * the answer to a statement, which whoever sent it judges (a conflict between two batches is one, and harmless); what
 * follows an error explains it.
 */
export type PostgresLevel = 'debug' | 'info' | 'warn' | 'error'

const LEVELS: Record<string, PostgresLevel> = {
  LOG: 'debug',
  INFO: 'debug',
  NOTICE: 'debug',
  WARNING: 'warn',
  ERROR: 'debug',
  FATAL: 'warn',
  PANIC: 'error',
}

/** A line without a severity of its own goes on with the one before it: it is its detail, or the rest of a statement. */
export function postgresLevel(line: string, before: PostgresLevel): PostgresLevel {
  const severity = /^([A-Z]+): {2}/.exec(line)?.[1]
  return (
    (severity === undefined ? undefined : LEVELS[severity]) ??
    (line.startsWith('\t') || severity ? before : 'info')
  )
}
