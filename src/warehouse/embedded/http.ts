/**
 * ClickHouse's HTTP interface over the in-process engine, so that `@clickhouse/client`, `curl` and dashboards work
 * unmodified. In: GET and POST with the query in the URL, the body or both; settings, `param_*`, `database` and
 * `default_format` as URL parameters; gzip both ways. Out: the result in the format asked for with ClickHouse's
 * headers, or its error text with the status that ClickHouse gives it.
 *
 * Users and passwords are accepted and not checked: the front listens on loopback unless told otherwise. Pages in a
 * browser are kept out (another origin, a host name that is not ours), since the engine reads and writes files.
 * Not there, and refused: sessions, the native compression of bodies, multipart tables.
 */
import { randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type Engine, exception, exceptionCode, type Statement } from './engine.ts'
import { bodyChunks, type Spool, type SpoolFile, SpoolFull } from './spool.ts'
import { insertHead, queryShape, quoteString } from './sql-text.ts'

export type FrontOptions = {
  engine: Engine
  spool: Spool
  database: string
  /** Host names under which the front may be called; undefined for any. */
  hosts: ReadonlySet<string> | undefined
}

/** A statement without data is at most this long. */
const QUERY_BYTES_MAX = 16 * 1024 * 1024
/** An INSERT whose query stands in the body must end its head within this. */
const INSERT_HEAD_BYTES_MAX = 64 * 1024
/** Results above this are worth compressing. */
const GZIP_BYTES_MIN = 1024

/** URL parameters that belong to the HTTP interface and are no settings of a query. */
const HTTP_PARAMETERS = new Set(
  `query database default_format query_id user password quota_key role stacktrace client_protocol_version
  session_timeout session_check close_session wait_end_of_query buffer_size send_progress_in_http_headers
  add_http_cors_header enable_http_compression http_zlib_compression_level http_response_buffer_size
  http_headers_progress_interval_ms http_native_compression_disable_checksumming_on_decompress
  http_write_exception_in_output_format http_wait_end_of_query http_response_headers decompress`.split(/\s+/),
)

/** What a GET may do; everything else changes something and must be a POST. */
const READ_VERBS = new Set(['SELECT', 'WITH', 'SHOW', 'DESCRIBE', 'DESC', 'EXPLAIN', 'EXISTS', 'CHECK'])

const gzipAsync = promisify(gzip)
const textDecoder = new TextDecoder()

/** Answers one request of the query interface. Never throws. */
export async function answerQuery(request: Request, options: FrontOptions): Promise<Response> {
  const url = new URL(request.url)
  const queryId = url.searchParams.get('query_id') || randomUUID()
  const files: SpoolFile[] = []
  try {
    guardOrigin(request, url, options.hosts)
    const statement = await readStatement(request, url, options, files)
    if (statement === undefined) return new Response('Ok.\n')
    const started = performance.now()
    const result = await options.engine.run(statement)
    // Rows of an INSERT are counted as sent, also when its token was known and nothing was stored again.
    const wrote = statement.kind === 'insert'
    const summary = {
      read_rows: String(result.rows),
      read_bytes: String(result.rowBytes),
      written_rows: wrote ? String(result.rows) : '0',
      written_bytes: wrote ? String(result.rowBytes) : '0',
      total_rows_to_read: '0',
      result_rows: wrote ? '0' : String(result.rows),
      result_bytes: String(result.bytes.length),
      elapsed_ns: String(Math.round((performance.now() - started) * 1e6)),
    }
    return await respond(request, url, result.bytes, {
      'X-ClickHouse-Summary': JSON.stringify(summary),
      'X-ClickHouse-Query-Id': queryId,
      'X-ClickHouse-Format': statement.format,
      'X-ClickHouse-Timezone': 'UTC',
      'X-ClickHouse-Server-Display-Name': 'headrace',
      'Content-Type': contentType(statement.format),
    })
  } catch (error) {
    return refuse(error, queryId)
  } finally {
    for (const file of files) file.remove()
  }
}

/** The statement of a request, its data spooled; undefined when there is none. */
async function readStatement(
  request: Request,
  url: URL,
  options: FrontOptions,
  files: SpoolFile[],
): Promise<Statement | undefined> {
  const settings = new Map<string, string>()
  const params = new Map<string, string>()
  for (const [name, value] of url.searchParams) {
    if (name.startsWith('param_')) params.set(checkedName(name.slice(6)), value)
    else if (name === 'session_id')
      throw exception(48, 'HTTP sessions are not supported here', 'NOT_IMPLEMENTED')
    else if (name === 'compress' || name === 'decompress') {
      if (value !== '0')
        throw exception(48, 'Native compression of HTTP bodies is not supported here', 'NOT_IMPLEMENTED')
    } else if (!HTTP_PARAMETERS.has(name)) settings.set(checkedName(name), value)
  }
  const wantedDatabase = url.searchParams.get('database') ?? request.headers.get('x-clickhouse-database')
  // The engine's own `default` is a view of its file system; under that name clients mean ours.
  const database = !wantedDatabase || wantedDatabase === 'default' ? options.database : wantedDatabase
  const defaultFormat =
    url.searchParams.get('default_format') ?? request.headers.get('x-clickhouse-format') ?? 'TabSeparated'
  const base = { database, settings, params }

  const encoding = request.headers.get('content-encoding') ?? 'identity'
  if (encoding !== 'gzip' && encoding !== 'identity')
    throw exception(48, `Content-Encoding ${quoteString(encoding)} is not supported here`, 'NOT_IMPLEMENTED')
  const chunks = bodyChunks(request)
  const inUrl = url.searchParams.get('query') ?? ''
  // An INSERT's head stands in the URL, or at the beginning of the body; what follows it is data.
  let text = inUrl
  let rest: Uint8Array = new Uint8Array()
  if (inUrl === '' || insertHead(inUrl) === undefined) {
    const read = await readText(chunks, inUrl === '')
    text = inUrl === '' ? read.text : `${inUrl}\n${read.text}`
    rest = read.rest
  }
  const insert = insertHead(text)
  if (insert) {
    if (request.method !== 'POST') throw readonly()
    const file = options.spool.create()
    files.push(file)
    file.write(new TextEncoder().encode(text.slice(insert.dataStart)))
    file.write(rest)
    for await (const chunk of chunks) file.write(chunk)
    const sql = `${insert.target} FROM INFILE ${quoteString(file.path)} ${insert.settings} FORMAT ${insert.format}`
    return { ...base, sql, format: 'Null', kind: 'insert', changesSession: false }
  }
  const shape = queryShape(text)
  if (shape.verb === '') return undefined
  if (shape.multiple) throw exception(62, 'Syntax error (Multi-statements are not allowed)', 'SYNTAX_ERROR')
  if (request.method !== 'POST' && !READ_VERBS.has(shape.verb)) throw readonly()
  return {
    ...base,
    sql: text.slice(0, shape.end),
    format: shape.format ?? defaultFormat,
    kind: shape.verb === 'INSERT' ? 'insert' : 'read',
    changesSession: shape.changesSession,
  }
}

/**
 * Reads the body as text: all of it, or, when it may be an INSERT with data, up to the chunk in which the head ends.
 * Bytes after the head must not be decoded, so they come back as `rest`.
 */
async function readText(
  chunks: AsyncGenerator<Uint8Array>,
  mayBeInsert: boolean,
): Promise<{ text: string; rest: Uint8Array }> {
  let body: Buffer = Buffer.alloc(0)
  const parts: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { value, done } = await chunks.next()
    if (done) break
    parts.push(value)
    size += value.length
    if (size > QUERY_BYTES_MAX) throw exception(229, 'The query is too large', 'QUERY_IS_TOO_LARGE')
    if (mayBeInsert && size <= INSERT_HEAD_BYTES_MAX + value.length) {
      const found = splitAtData(Buffer.concat(parts))
      if (found) return found
    }
  }
  body = Buffer.concat(parts)
  return (
    (mayBeInsert ? splitAtData(body) : undefined) ?? {
      text: textDecoder.decode(body),
      rest: new Uint8Array(),
    }
  )
}

/** Cuts a body at the place where an INSERT's data begins. One byte per character, so that places are byte places. */
function splitAtData(body: Buffer): { text: string; rest: Uint8Array } | undefined {
  const window = body.toString('latin1', 0, INSERT_HEAD_BYTES_MAX)
  const head = insertHead(window)
  // The format's name could go on in the next chunk: it has ended only when something follows it.
  if (!head || head.dataStart >= window.length) return undefined
  return { text: body.toString('utf8', 0, head.dataStart), rest: body.subarray(head.dataStart) }
}

async function respond(
  request: Request,
  url: URL,
  bytes: Uint8Array,
  headers: Record<string, string>,
): Promise<Response> {
  const asked = url.searchParams.get('enable_http_compression') === '1'
  if (
    asked &&
    bytes.length >= GZIP_BYTES_MIN &&
    /\bgzip\b/.test(request.headers.get('accept-encoding') ?? '')
  ) {
    headers['Content-Encoding'] = 'gzip'
    return new Response((await gzipAsync(bytes, { level: 1 })) as Uint8Array<ArrayBuffer>, { headers })
  }
  return new Response(bytes as Uint8Array<ArrayBuffer>, { headers })
}

function refuse(error: unknown, queryId: string): Response {
  let shown: unknown = error
  if (error instanceof SpoolFull)
    shown =
      error.scope === 'body'
        ? exception(307, 'Limit for bytes of one INSERT body exceeded', 'TOO_MANY_BYTES')
        : exception(
            202,
            'Too many bytes of INSERT bodies wait for the engine',
            'TOO_MANY_SIMULTANEOUS_QUERIES',
          )
  if ((error as { code?: string }).code?.startsWith('Z_'))
    shown = exception(354, `The gzip body cannot be read: ${(error as Error).message}`, 'ZLIB_INFLATE_FAILED')
  const code = exceptionCode(shown)
  if (code === undefined && (shown as { code?: string }).code === 'ENOSPC')
    shown = exception(243, 'No room for the body of the INSERT', 'NOT_ENOUGH_SPACE')
  const text = shown instanceof Error ? shown.message : String(shown)
  const start = text.indexOf('Code: ')
  // The engine repeats its prefix when an error crosses one of its own layers.
  const message = (
    start < 0 ? `Code: 1002. DB::Exception: ${text} (UNKNOWN_EXCEPTION)` : text.slice(start)
  ).replace(/^(Code: \d+\. DB::Exception: )(?:Code: \d+\. DB::Exception: )+/, '$1')
  const number = exceptionCode(new Error(message)) ?? 1002
  return new Response(`${message}\n`, {
    status: statusOf(number),
    headers: {
      'X-ClickHouse-Exception-Code': String(number),
      'X-ClickHouse-Query-Id': queryId,
      'Content-Type': 'text/plain; charset=UTF-8',
    },
  })
}

const BAD_REQUEST = [
  6, 7, 20, 25, 26, 27, 32, 33, 36, 38, 41, 43, 44, 46, 47, 50, 52, 53, 62, 69, 70, 72, 73, 117, 131, 321,
  349, 354, 376, 456, 457, 467, 469, 632, 691,
]
const NOT_FOUND = [16, 60, 81, 115, 218, 390]

/** The HTTP status that ClickHouse gives an exception. */
export function statusOf(code: number): number {
  if (NOT_FOUND.includes(code)) return 404
  if (BAD_REQUEST.includes(code)) return 400
  if (code === 497 || code === 164) return 403
  if (code === 307 || code === 229) return 413
  if (code === 159) return 408
  if (code === 48) return 501
  if (code === 202 || code === 210) return 503
  return 500
}

function contentType(format: string): string {
  if (/^JSON.*EachRow/.test(format)) return 'application/x-ndjson; charset=UTF-8'
  if (format.startsWith('JSON')) return 'application/json; charset=UTF-8'
  if (format.startsWith('CSV')) return 'text/csv; charset=UTF-8; header=absent'
  if (/^(TabSeparated|TSV)/.test(format)) return 'text/tab-separated-values; charset=UTF-8'
  return /^(RowBinary|Native|Parquet|Arrow|ORC|Avro|MsgPack)/.test(format)
    ? 'application/octet-stream'
    : 'text/plain; charset=UTF-8'
}

function checkedName(name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    throw exception(115, `Unknown setting ${quoteString(name)}`, 'UNKNOWN_SETTING')
  return name
}

function readonly(): Error {
  return exception(
    164,
    'Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries.',
    'READONLY',
  )
}

/** A page of another site must not reach an engine that trusts whoever can connect. */
function guardOrigin(request: Request, url: URL, hosts: ReadonlySet<string> | undefined): void {
  const origin = request.headers.get('origin')
  if (origin !== null && origin !== url.origin)
    throw exception(497, 'Requests from pages of other origins are refused', 'ACCESS_DENIED')
  if (hosts && !hosts.has(url.hostname))
    throw exception(
      497,
      `The host name ${quoteString(url.hostname)} is not one of this server`,
      'ACCESS_DENIED',
    )
}
