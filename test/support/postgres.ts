/**
 * A real Postgres for a test file: the embedded server in a folder of its own, with the schema of this version.
 *
 *   let postgres: TestPostgres
 *   beforeAll(async () => { postgres = await startTestPostgres() })
 *   afterAll(() => postgres.stop())
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrateState, openPostgres, type Sql, startEmbeddedPostgres } from '../../src/catalog/index.ts'

export type TestPostgres = {
  sql: Sql
  /** For openPostgres, when a test wants a pool of its own. */
  url: { socketDir: string }
  /** Of the postmaster, for tests that kill it. */
  pid: number
  dataDir: string
  stop(): Promise<void>
}

/** About 1.3 s, most of it initdb. */
export async function startTestPostgres(options: { migrate?: boolean } = {}): Promise<TestPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'headrace-test-postgres-'))
  const server = await startEmbeddedPostgres({ dataDir })
  const url = { socketDir: server.socketDir }
  const sql = openPostgres({ url, name: 'test', connectionsMax: 10 })
  const stop = async () => {
    await sql.end({ timeout: 1 })
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
  try {
    if (options.migrate !== false) await migrateState(sql)
  } catch (error) {
    await stop()
    throw error
  }
  return { sql, url, pid: server.pid, dataDir, stop }
}
