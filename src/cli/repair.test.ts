/** `headrace repair` as an operator has it: a process of its own, on a real Postgres, engine and embedded log. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgresByUrl, type UrlPostgres } from '../../test/support/postgres.ts'
import { createTopics } from '../../test/support/rows.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { openPostgres } from '../catalog/index.ts'
import { TOPICS } from '../event/index.ts'
import { openEmbeddedLog } from '../log/index.ts'
import { EXIT } from './exit.ts'

setDefaultTimeout(120_000)

let postgres: UrlPostgres
let warehouse: TestWarehouse
let clickhouse = 'http://127.0.0.1:1'
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'headrace-cli-'))
  ;[postgres, warehouse] = await Promise.all([startPostgresByUrl(), startTestWarehouse()])
})
afterAll(async () => {
  await Promise.all([postgres.stop(), warehouse.stop()])
  await rm(dir, { recursive: true })
})

async function repair(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const cli = Bun.spawn([join(import.meta.dir, '../../headrace'), 'repair', ...args], {
    env: {
      PATH: process.env.PATH ?? '',
      HEADRACE_DATA_DIR: dir,
      HEADRACE_POSTGRES: postgres.url,
      HEADRACE_CLICKHOUSE: clickhouse,
    },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [stdout, stderr] = await Promise.all([
    new Response(cli.stdout).text(),
    new Response(cli.stderr).text(),
  ])
  return { code: await cli.exited, stdout, stderr }
}

const FORMER = '0193a7c4-5b1e-7c3a-9d2f-000000000001'

test('shows a gap, asks for the decision, does it once, and refuses what it cannot look at', async () => {
  const log = await openEmbeddedLog({ dir: join(dir, 'log') })
  const ids = await createTopics(log, 8)
  await log.close()
  // Whether Postgres is behind is for ClickHouse to say, too.
  expect(await repair()).toMatchObject({ code: EXIT.unreachable })
  const sql = openPostgres({ url: postgres.url, name: 'test', connectionsMax: 1 })
  await sql`
    INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
    VALUES (${FORMER}, 3, ${TOPICS.raw}, 12, 12)`
  // And whether anything is lost: it may have the rows.
  expect(await repair('gap', '--all', '--accept-loss')).toMatchObject({ code: EXIT.unreachable })

  clickhouse = warehouse.url
  const shown = await repair()
  expect(shown.code).toBe(EXIT.finding)
  expect(shown.stdout).toContain(
    `raw_events/3  lost: offset 12 up to the end of log ${FORMER}, which is gone`,
  )
  expect(await repair('gap', '--accept-loss')).toMatchObject({ code: EXIT.usage })
  const undecided = await repair('gap', '--all', '--yes')
  expect(undecided.code).toBe(EXIT.usage)
  expect(undecided.stderr).toContain('--accept-loss says that you accept it')
  const dry = await repair('gap', '--partition', '3', '--accept-loss')
  expect(dry.code).toBe(EXIT.finding)
  expect(dry.stdout).toContain('nothing was changed (without --yes)')
  expect(await repair('gap', '--partition', '2', '--accept-loss', '--yes')).toMatchObject({
    code: EXIT.done,
    stdout: 'no gap: every raw partition can be read on where ingest stands\n',
  })

  const done = await repair('gap', '--all', '--accept-loss', '--yes', '--json')
  expect(done.code).toBe(EXIT.done)
  expect(JSON.parse(done.stdout)).toMatchObject({ applied: true, repairs: [{ partition: 3, goesOnAt: 0 }] })
  const fences = await sql`
    SELECT log_id, next_offset, closed_at IS NOT NULL AS closed FROM ingest_fence ORDER BY next_offset`
  await sql.end()
  expect([...fences]).toEqual([
    { log_id: ids.get(TOPICS.raw), next_offset: 0, closed: false },
    { log_id: FORMER, next_offset: 12, closed: true },
  ])
  expect(await repair('gap', '--all', '--accept-loss', '--yes')).toMatchObject({ code: EXIT.done })
})
