/**
 * The Postgres that the tests of the rules run on: the embedded one, and, when HEADRACE_TEST_POSTGRES_URL names a server,
 * that one too, in a database of its own that is dropped afterwards.
 */
import { randomBytes } from 'node:crypto'
import postgres from 'postgres'
import { startTestPostgres } from '../../../test/support/postgres.ts'
import { migrateState, openPostgres, type PostgresOptions, type Sql } from '../../catalog/index.ts'

export type TestState = {
  sql: Sql
  /** For pools of its own. */
  url: PostgresOptions['url']
  stop(): Promise<void>
}

const URL_OF_OTHERS = process.env.HEADRACE_TEST_POSTGRES_URL

export const TEST_STATES: { name: string; start: () => Promise<TestState> }[] = [
  { name: 'the embedded Postgres', start: () => startTestPostgres() },
  ...(URL_OF_OTHERS ? [{ name: 'a Postgres by URL', start: () => startByUrl(URL_OF_OTHERS) }] : []),
]

async function startByUrl(server: string): Promise<TestState> {
  const name = `headrace_test_${randomBytes(6).toString('hex')}`
  const admin = postgres(server, { max: 1, onnotice: () => {} })
  await admin.unsafe(`CREATE DATABASE ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  const sql = openPostgres({ url: url.href, name: 'test', connectionsMax: 10 })
  const stop = async () => {
    await sql.end({ timeout: 1 })
    await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`)
    await admin.end({ timeout: 1 })
  }
  try {
    await migrateState(sql)
  } catch (error) {
    await stop()
    throw error
  }
  return { sql, url: url.href, stop }
}
