/**
 * The warehouse as everybody else sees it: a ClickHouse behind its HTTP interface, embedded or by URL. In: SQL with
 * parameters, or encoded rows of one table. Out: JSON rows; errors always as HeadraceError (classify.ts).
 *
 * Must hold: an insert of the same rows under the same token is stored once, however often it is sent. ClickHouse
 * remembers tokens per block, so the settings below make one cut exactly one block per month partition; anything
 * that could cut it otherwise (parallel parsing, insert threads, smaller blocks, async inserts) is pinned.
 * Cost: one copy of the rows, in slabs, onto the socket; nothing is parsed here.
 */
import { Readable } from 'node:stream'
import {
  type ClickHouseClient,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  createClient,
} from '@clickhouse/client'
import type { Table } from '../event/index.ts'
import { classify } from './classify.ts'
import { insertTarget, type WarehouseVariant } from './ddl.ts'
import { warehouseError } from './errors.ts'

export type WarehouseOptions = {
  url: string
  username?: string
  password?: string
  database?: string
  variant?: WarehouseVariant
  /** How long a query may take before it counts as not answered. */
  queryTimeoutMs?: number
  /** How long an insert may take; afterwards its outcome is unknown and the same token settles it. */
  insertTimeoutMs?: number
}

export type QueryParameters = Record<
  string,
  string | number | boolean | bigint | readonly (string | number)[]
>

export type InsertRows = {
  table: Table
  /** Each one row in RowBinary, as `table.encode` made it. */
  rows: readonly Uint8Array[]
  /** The same rows under the same token are stored once. */
  token: string
  /** Called right before the first row goes, which is a while after the call; when it throws, none goes. */
  beforeRows?: () => void
}

export type Warehouse = {
  readonly variant: WarehouseVariant
  readonly database: string
  /** Rows of a query without a FORMAT clause; 64-bit integers come as numbers, so keep them below 2^53 or cast. */
  query<T>(sql: string, params?: QueryParameters): Promise<T[]>
  /** A statement without rows. */
  command(sql: string, params?: QueryParameters): Promise<void>
  /** Undefined when ClickHouse answers, else one sentence. */
  ping(): Promise<string | undefined>
  /** One INSERT. Resolves when the rows are stored and synced (or were already, under the token). */
  insertRows(insert: InsertRows): Promise<void>
  close(): Promise<void>
}

/** A cut has at most this many rows and bytes, so that it is one block per month. */
export const INSERT_ROWS_MAX = 500_000
export const INSERT_BYTES_MAX = 128 * 1024 * 1024

/** Tables that a sharded deployment spreads over shards; the others are whole on every node. */
export const SHARDED_TABLES: ReadonlySet<string> = new Set([
  'events',
  'ingestion_warnings',
  'dead_letters',
  'outcomes',
])

const QUERY_TIMEOUT_MS = 60_000
const INSERT_TIMEOUT_MS = 120_000
const SLAB_BYTES = 1024 * 1024
/** Larger than any cut: the parser and the squasher never close a block before the end of the data. */
const BLOCK_ROWS = 2 * INSERT_ROWS_MAX
const BLOCK_BYTES = 16 * INSERT_BYTES_MAX

/** Settings of every insert; see the module comment. */
export function insertSettings(
  token: string,
  variant: WarehouseVariant,
  timeoutMs = INSERT_TIMEOUT_MS,
): ClickHouseSettings {
  return {
    insert_deduplication_token: token,
    insert_deduplicate: 1,
    async_insert: 0,
    max_insert_threads: '1',
    input_format_parallel_parsing: 0,
    max_insert_block_size: String(BLOCK_ROWS),
    min_insert_block_size_rows: String(BLOCK_ROWS),
    min_insert_block_size_bytes: String(BLOCK_BYTES),
    // ClickHouse's own limit, pinned: a server that raised it would take cuts that use up the window of tokens.
    max_partitions_per_insert_block: '100',
    // Nobody waits for it any longer, and what the server still does under the token must end while that is remembered.
    max_execution_time: Math.ceil(timeoutMs / 1000),
    timeout_overflow_mode: 'throw',
    // The answer then means that a majority of the replicas has the rows.
    ...(variant === 'single' ? {} : { insert_quorum: 'auto' }),
  }
}

/** Connects lazily; nothing is sent until the first call. */
export function openWarehouse(options: WarehouseOptions): Warehouse {
  const variant = options.variant ?? 'single'
  const database = options.database ?? 'default'
  const queryTimeoutMs = options.queryTimeoutMs ?? QUERY_TIMEOUT_MS
  const insertTimeoutMs = options.insertTimeoutMs ?? INSERT_TIMEOUT_MS
  const client = createClient({
    url: options.url,
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.password === undefined ? {} : { password: options.password }),
    database,
    application: 'headrace',
    // Errors are thrown, classified; the client's own console output would break the one stream of logs.
    log: { level: ClickHouseLogLevel.OFF },
    // Of a silent socket, whatever it is used for: each call has a limit of its own, which this one must not undercut.
    request_timeout: Math.max(queryTimeoutMs, insertTimeoutMs),
    clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
  })
  return {
    variant,
    database,
    query: (sql, params) =>
      guarded(sql, 'query', queryTimeoutMs, async (signal) => {
        const answer = await client.query({
          query: sql,
          format: 'JSONEachRow',
          abort_signal: signal,
          ...(params ? { query_params: params } : {}),
        })
        return await answer.json()
      }),
    command: (sql, params) =>
      guarded(sql, 'query', queryTimeoutMs, async (signal) => {
        await client.command({
          query: sql,
          abort_signal: signal,
          ...(params ? { query_params: params } : {}),
        })
      }),
    async ping() {
      const answer = await client.ping()
      return answer.success
        ? undefined
        : `ClickHouse at ${redacted(options.url)} does not answer: ${answer.error.message}`
    },
    insertRows: (insert) => insertRows(client, insert, variant, insertTimeoutMs),
    close: () => client.close(),
  }
}

async function insertRows(
  client: ClickHouseClient,
  { table, rows, token, beforeRows }: InsertRows,
  variant: WarehouseVariant,
  timeoutMs: number,
): Promise<void> {
  if (rows.length === 0) return
  let bytes = 0
  for (const row of rows) bytes += row.length
  if (rows.length > INSERT_ROWS_MAX || bytes > INSERT_BYTES_MAX)
    throw warehouseError(
      'HR_WAREHOUSE_TOO_LARGE',
      `an insert of ${rows.length} rows and ${bytes} bytes into ${table.name}: at most ${INSERT_ROWS_MAX} rows and ${INSERT_BYTES_MAX} bytes`,
    )
  const target = insertTarget(table.name, variant, SHARDED_TABLES.has(table.name))
  const columns = table.columns.map((column) => `\`${column.name}\``).join(', ')
  // Of an error in the body the HTTP client tells only that the connection ended.
  let keptBack: unknown
  const before = () => {
    try {
      beforeRows?.()
    } catch (error) {
      keptBack = error
      throw error
    }
  }
  await guarded(`insert into ${target}`, 'insert', timeoutMs, async (signal) => {
    const answer = await client
      .exec({
        query: `INSERT INTO ${target} (${columns}) FORMAT RowBinary`,
        values: Readable.from(slabs(rows, before), { objectMode: false, highWaterMark: SLAB_BYTES }),
        clickhouse_settings: insertSettings(token, variant, timeoutMs),
        abort_signal: signal,
      })
      .catch((error: unknown) => {
        throw keptBack ?? error
      })
    // The answer has no body, but the socket is free again only when it was read.
    for await (const _ of answer.stream);
  })
}

/** The rows joined into slabs: one write per row would cost more than the copy. */
function* slabs(rows: readonly Uint8Array[], before: () => void): Generator<Buffer> {
  before()
  for (let from = 0; from < rows.length; ) {
    let size = 0
    let to = from
    do size += rows[to++]!.length
    while (to < rows.length && size + rows[to]!.length <= SLAB_BYTES)
    yield Buffer.concat(rows.slice(from, to), size)
    from = to
  }
}

async function guarded<T>(
  what: string,
  doing: 'query' | 'insert',
  timeoutMs: number,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await call(AbortSignal.timeout(timeoutMs))
  } catch (error) {
    throw classify(error, doing, what.length > 80 ? `${what.slice(0, 80)}…` : what)
  }
}

function redacted(url: string): string {
  const shown = new URL(url)
  shown.password = ''
  return shown.toString()
}
