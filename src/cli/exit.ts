/** How a verb ends: the exit codes that scripts may rely on, and the one sentence that a person reads. */
import { HeadraceError } from '../event/index.ts'

export const EXIT = {
  done: 0,
  /** The verb did its work and found something wrong, or a process stopped because of an error. */
  finding: 1,
  /** The command line or a setting is wrong. */
  usage: 2,
  /** The log, Postgres or ClickHouse cannot be reached. */
  unreachable: 3,
} as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

const USAGE_CODES = ['HR_SETTING_INVALID', 'HR_CLI_ARGUMENT', 'HR_POLICY_INVALID', 'HR_DESTINATION_INVALID']

export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof HeadraceError)) return EXIT.finding
  if (error.class === 'retriable') return EXIT.unreachable
  return USAGE_CODES.includes(error.code) ? EXIT.usage : EXIT.finding
}

/** One sentence with the code; the stack and its causes only for who asked for them. */
export function sentence(error: unknown, level = process.env.HEADRACE_LOG_LEVEL): string {
  if (level === 'debug' || level === 'trace') return Bun.inspect(error)
  if (error instanceof HeadraceError) return `${error.message} (${error.code})`
  return error instanceof Error ? error.message : String(error)
}
