/**
 * A table of another Postgres: one statement per batch, an upsert by `key`, so an event that is sent again changes nothing or
 * replaces itself. `columns` says what goes into each column, as templates. The server's name is looked up and judged
 * like a URL's, and the connection goes to the address that was judged.
 */
import postgres from 'postgres'
import { deliverError } from '../errors.ts'
import { HttpFault } from '../http/client.ts'
import { Options } from '../options.ts'
import { compileTemplate } from '../template.ts'
import {
  type Delivery,
  eachAlone,
  shorten,
  type Target,
  type TargetContext,
  type TargetKind,
  type Verdict,
} from './target.ts'

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/
const COLUMNS_DEFAULT = {
  id: '{id}',
  uuid: '{uuid}',
  event: '{event}',
  distinct_id: '{distinct_id}',
  timestamp: '{timestamp}',
  properties: '{properties}',
}
const CONNECTIONS_MAX = 2
const IDLE_S = 60
/** Data exceptions, constraints and size limits: this very row can never be stored. */
const REFUSED = /^(22|23|54)/

export const POSTGRES: TargetKind = {
  kind: 'postgres',
  defaults: { password: { secret: 'password' } },
  open(values, context) {
    const options = new Options('postgres', values)
    const place = {
      host: options.text('host'),
      port: options.whole('port', 1, 65_535, 5_432),
      database: options.text('database'),
      username: options.text('user'),
      password: options.text('password'),
      tls: options.choice('tls', ['verify', 'require', 'off'], 'verify'),
    }
    const schema = options.text('schema', 'public')
    const table = options.text('table')
    const key = options.text('key', 'id')
    const columns = options.any('columns') ?? COLUMNS_DEFAULT
    const batchMax = options.whole('batch', 1, 1_000, 500)
    options.done()
    const names = typeof columns === 'object' && columns !== null ? Object.keys(columns) : []
    const wrong = [schema, table, key, ...names].find((name) => !NAME.test(name))
    if (wrong !== undefined || !names.includes(key))
      throw deliverError(
        'HR_DESTINATION_INVALID',
        `schema, table and columns of a postgres must be names of A-Z a-z 0-9 _, and key one of its columns${wrong === undefined ? '' : `; "${wrong}" is none`}`,
      )
    return new PostgresTarget(
      context,
      place,
      { schema, table, key, names, batchMax },
      compileTemplate(columns),
    )
  },
}

type Place = {
  host: string
  port: number
  database: string
  username: string
  password: string
  tls: 'verify' | 'require' | 'off'
}
type Shape = { schema: string; table: string; key: string; names: string[]; batchMax: number }

class PostgresTarget implements Target {
  readonly batchMax: number
  private readonly statement: string
  private opened: { address: string; sql: postgres.Sql } | undefined

  constructor(
    private readonly context: TargetContext,
    private readonly place: Place,
    { schema, table, key, names, batchMax }: Shape,
    private readonly render: ReturnType<typeof compileTemplate>,
  ) {
    this.batchMax = batchMax
    const list = names.map((name) => `"${name}"`).join(', ')
    const others = names.filter((name) => name !== key).map((name) => `"${name}" = excluded."${name}"`)
    const then = others.length > 0 ? `UPDATE SET ${others.join(', ')}` : 'NOTHING'
    // The table's own types read the values.
    this.statement = `INSERT INTO "${schema}"."${table}" (${list})
      SELECT DISTINCT ON ("${key}") ${list} FROM jsonb_populate_recordset(NULL::"${schema}"."${table}", $1::text::jsonb)
      ON CONFLICT ("${key}") DO ${then}`
  }

  send(deliveries: readonly Delivery[]): Promise<Verdict[]> {
    return eachAlone(deliveries, (some) => this.insert(some))
  }

  private async insert(deliveries: readonly Delivery[]): Promise<Verdict> {
    const rows = JSON.stringify(deliveries.map(({ id, view }) => this.render({ ...view.fields, id })))
    let timer: ReturnType<typeof setTimeout> | undefined
    try {
      const sql = await this.connected()
      const late = new Promise<never>((_, reject) => {
        const { timeoutMs } = this.context
        timer = setTimeout(() => reject(new HttpFault(`no answer within ${timeoutMs} ms`, false)), timeoutMs)
      })
      const working = sql.unsafe(this.statement, [rows])
      await Promise.race([working, late])
      return { kind: 'delivered', status: 200, response: '' }
    } catch (error) {
      const { code = '', message } = error as { code?: string; message: string }
      if (error instanceof HttpFault) await this.close()
      const kind = REFUSED.test(code) ? 'refused' : 'failed'
      return { kind, status: 0, response: shorten(code === '' ? message : `${code} ${message}`) }
    } finally {
      clearTimeout(timer)
    }
  }

  /** To an address that was judged; made anew when the name has another one. Throws HttpFault. */
  private async connected(): Promise<postgres.Sql> {
    const { host, port, database, username, password, tls } = this.place
    const { signal } = new AbortController()
    const address = await this.context.http.judgedAddress(host, signal, this.opened?.address)
    if (this.opened?.address === address) return this.opened.sql
    await this.close()
    const sql = postgres({
      host: address,
      port,
      database,
      username,
      password,
      max: CONNECTIONS_MAX,
      idle_timeout: IDLE_S,
      connect_timeout: Math.ceil(this.context.timeoutMs / 1_000),
      fetch_types: false,
      onnotice: () => {},
      connection: { application_name: 'headrace destination' },
      ssl: tls === 'off' ? false : { servername: host, rejectUnauthorized: tls === 'verify' },
    })
    this.opened = { address, sql }
    return sql
  }

  async close(): Promise<void> {
    const before = this.opened
    this.opened = undefined
    await before?.sql.end({ timeout: 1 }).catch(() => {})
  }
}
