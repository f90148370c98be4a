/**
 * Access to Postgres, embedded or by URL: one client, one dialect. A query that fails because the world is at fault
 * (connection, restart, too many clients, disk full, deadlock, time-out) becomes HR_STATE_UNAVAILABLE or
 * HR_STATE_CONFLICT, so that callers decide by class and never by driver.
 */
import postgres from 'postgres'
import { errorTable, HeadraceError } from '../event/index.ts'
import { keepResultsDense } from './dense-results.ts'
import { steadySockets } from './steady-socket.ts'

export const STATE_ERRORS = {
  HR_STATE_UNAVAILABLE: {
    class: 'retriable',
    status: 503,
    meaning: 'Postgres cannot be reached, is restarting, or is out of a resource.',
  },
  HR_STATE_CONFLICT: {
    class: 'retriable',
    meaning:
      'A concurrent transaction was in the way (deadlock, serialisation, lock time-out); the same work can be tried again.',
  },
  HR_STATE_REFUSED: {
    class: 'rejected',
    meaning: 'Postgres refuses this very statement: a value that it cannot hold.',
  },
  HR_STATE_SCHEMA: { class: 'fatal', meaning: 'The schema is not the one this version needs.' },
} as const
export const stateError = errorTable(STATE_ERRORS)

export type Sql = postgres.Sql<{ bigint: number }>
export type Transaction = postgres.TransactionSql<{ bigint: number }>

export type PostgresOptions = {
  /** postgres:// URL, or the folder of the embedded server's Unix socket; its database is `headrace`. */
  url: string | { socketDir: string; database?: string }
  /** Shown in pg_stat_activity. */
  name: string
  connectionsMax: number
}

const CONNECT_WITHIN_S = 5
/** The driver's own goes up to 20 s; a server that is back must be noticed well within the 10 s of invariant I5. */
const RECONNECT_DELAY_S_MAX = 1

/**
 * The driver (3.4.9) collects writes below 1024 bytes for a timer, and forgets to reset that timer when a connection
 * closes with one pending: from then on its small writes, the first message of a new connection among them, are
 * never sent, and every query of that connection hangs. A first message of this size is sent at once and resets it.
 * The server shows the first 63 bytes of a name.
 */
const STARTUP_BYTES_MIN = 1024

function reconnectDelayS(retries: number): number {
  return Math.min(2 ** retries / 100, RECONNECT_DELAY_S_MAX) * (0.5 + Math.random() / 2)
}

/** Opens a pool; connects on first use. Big integers come back as numbers: ours stay below 2^53. */
export function openPostgres(options: PostgresOptions): Sql {
  const common = {
    max: options.connectionsMax,
    connection: { application_name: options.name.padEnd(STARTUP_BYTES_MIN) },
    connect_timeout: CONNECT_WITHIN_S,
    backoff: reconnectDelayS,
    socket: steadySockets(),
    // Asking for the types of arrays at each connect fails unhandled when the server dies meanwhile; arrays go as text.
    fetch_types: false,
    onnotice: () => {},
    types: { bigint: { to: 20, from: [20], serialize: String, parse: Number } },
  }
  const sql =
    typeof options.url === 'string'
      ? postgres(options.url, common)
      : postgres({
          ...common,
          path: `${options.url.socketDir}/.s.PGSQL.5432`,
          user: 'headrace',
          database: options.url.database ?? 'headrace',
        })
  keepResultsDense(sql as unknown as postgres.Sql)
  return sql as unknown as Sql
}

/** SQLSTATE classes and codes for which the world is at fault: connection, resources, operator, system. */
const UNAVAILABLE = /^(08|53|57|58|25006|25P03|25P04|55006|XX)/
const CONFLICT = /^(40|55P03)/
/** Data exceptions, constraint and size limits: this statement can never succeed. */
const REFUSED = /^(22|23|54)/

/**
 * Runs `work` and turns what the driver throws into one of STATE_ERRORS; HeadraceErrors pass through.
 * Unknown errors stay as they are: they are our fault, and fatal.
 */
export async function guardState<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw classifyState(what, error)
  }
}

export function classifyState(what: string, error: unknown): unknown {
  if (error instanceof HeadraceError || !(error instanceof Error)) return error
  const code = String((error as { code?: unknown }).code ?? '')
  const said = `${what}: ${error.message}`
  if (
    /^(CONNECTION_|CONNECT_|ECONN|EPIPE|ENOENT|ETIMEDOUT|ENOTFOUND|EAI_|EHOSTUNREACH|ERR_SOCKET_|ERR_STREAM_|FailedToOpenSocket)/.test(
      code,
    )
  ) {
    return stateError('HR_STATE_UNAVAILABLE', said, error)
  }
  if (CONFLICT.test(code)) return stateError('HR_STATE_CONFLICT', said, error)
  if (UNAVAILABLE.test(code)) return stateError('HR_STATE_UNAVAILABLE', said, error)
  if (REFUSED.test(code)) return stateError('HR_STATE_REFUSED', said, error)
  return error
}
