import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { openPostgres, transaction } from '../../catalog/index.ts'
import { isRetriable } from '../../event/index.ts'
import { HOUR_MS, MINUTE_MS, NOON } from './cookieless.fixture.ts'
import { judge, type Visit } from './judge.ts'
import { purgeClosedDays, startPurge } from './purge.ts'
import type { CookielessIds } from './rewrite.ts'
import { type DaySalts, Salts } from './salts.ts'
import { lockVisitors, visitorsJson, wantedVisitors } from './state.ts'
import {
  eventOf,
  type Seen,
  VisitorProcess,
  type VisitorReport,
  type VisitorRun,
} from './visitor-process.fixture.ts'

setDefaultTimeout(60_000)
const DAY_MS = 24 * HOUR_MS
const MIDNIGHT = Date.UTC(2026, 2, 10)
const QUIET = pino({ level: 'silent' })

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startTestPostgres()
})
afterAll(() => postgres.stop())
beforeEach(async () => {
  await postgres.sql`TRUNCATE cookieless_salt, cookieless_visitor, ingest_fence, receipt`
})

const seen = (ip: string, timestampMs: number, more: Partial<Seen> = {}): Seen => ({
  ip,
  timestampMs,
  ...more,
})

describe('salts', () => {
  test('all processes of a deployment have the same', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const sql = openPostgres({ url: postgres.url, name: 'salts', connectionsMax: 1 })
        const salts = await new Salts(sql).open(NOON)
        await sql.end()
        return [...salts].map(([day, salt]) => [day, Buffer.from(salt).toString('hex')])
      }),
    )
    expect(answers[0]!.map(([day]) => day)).toEqual([
      '2026-03-07',
      '2026-03-08',
      '2026-03-09',
      '2026-03-10',
      '2026-03-11',
    ])
    expect(new Set(answers[0]!.map(([, salt]) => salt)).size).toBe(5)
    for (const answer of answers) expect(answer).toEqual(answers[0]!)
  })

  test('are asked for once, also by several at a time', async () => {
    const salts = new Salts(postgres.sql)
    const [one, other] = await Promise.all([salts.open(NOON), salts.open(NOON)])
    expect([...one]).toEqual([...other])
    const away = openPostgres({ url: { socketDir: '/nowhere' }, name: 'away', connectionsMax: 1 })
    expect(await new Salts(away).open(NOON).catch((error) => isRetriable(error))).toBe(true)
    await away.end({ timeout: 0 })
    await postgres.sql`TRUNCATE cookieless_salt`
    expect([...(await salts.open(NOON + MINUTE_MS))]).toEqual([...one])
  })

  test('a day that was closed gets no other, though a clock is behind', async () => {
    const before = await new Salts(postgres.sql).open(MIDNIGHT)
    expect(before.has('2026-03-10')).toBe(true)
    await purgeClosedDays(postgres.sql, MIDNIGHT + 86 * HOUR_MS)
    const late = await new Salts(postgres.sql).open(MIDNIGHT + 86 * HOUR_MS - 1)
    expect(late.has('2026-03-10')).toBe(false)
    expect(late.has('2026-03-11')).toBe(true)
  })
})

/** All files of the database that hold these bytes. */
async function filesWith(bytes: Uint8Array): Promise<string[]> {
  await postgres.sql`CHECKPOINT`
  const base = join(postgres.dataDir, 'cluster', 'base')
  const files = readdirSync(base, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  expect(files.length).toBeGreaterThan(100)
  return files
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path).includes(Buffer.from(bytes)))
}

describe('what is closed is gone', () => {
  test('the bytes of a salt are in no file of the database, nor in a process', async () => {
    const salts = new Salts(postgres.sql)
    const salt = (await salts.open(NOON)).get('2026-03-10')!
    expect(await filesWith(salt)).toHaveLength(1)
    const closedMs = MIDNIGHT + 86 * HOUR_MS
    expect((await purgeClosedDays(postgres.sql, closedMs - 1)).salts).toBe(3)
    expect(await filesWith(salt)).toHaveLength(1)
    expect((await purgeClosedDays(postgres.sql, closedMs)).salts).toBe(1)
    expect(await filesWith(salt)).toEqual([])
    salts.forgetClosed(closedMs)
    expect(JSON.stringify([...(await salts.open(closedMs))])).not.toContain('2026-03-10')
    const [row] = await postgres.sql`SELECT salt FROM cookieless_salt WHERE day = '2026-03-10'`
    expect(row!.salt).toBeNull()
  })

  test('a transaction that could see the salt delays it by an hour, no more', async () => {
    const salt = (await new Salts(postgres.sql).open(NOON)).get('2026-03-10')!
    const closedMs = MIDNIGHT + 86 * HOUR_MS
    const other = openPostgres({ url: postgres.url, name: 'other', connectionsMax: 1 })
    await transaction(
      other,
      async (tx) => {
        await tx`SELECT count(*) FROM project`
        await purgeClosedDays(postgres.sql, closedMs)
        expect(await filesWith(salt)).toHaveLength(1)
      },
      'isolation level repeatable read',
    )
    await purgeClosedDays(postgres.sql, closedMs + HOUR_MS - 1)
    expect(await filesWith(salt)).toHaveLength(1)
    await purgeClosedDays(postgres.sql, closedMs + HOUR_MS)
    expect(await filesWith(salt)).toEqual([])
    await other.end()
  })

  test('visitors go in chunks; those of open days stay', async () => {
    const process = new VisitorProcess(postgres.sql)
    const many = (timestampMs: number) =>
      Array.from({ length: 25 }, (_, i) => seen(`10.0.0.${i}`, timestampMs))
    await process.process([...many(NOON - DAY_MS), ...many(NOON)], NOON)
    const closedMs = MIDNIGHT - DAY_MS + 86 * HOUR_MS
    expect((await purgeClosedDays(postgres.sql, closedMs - 1)).visitors).toBe(0)
    let chunks = 0
    const stopped = () => ++chunks > 2
    expect((await purgeClosedDays(postgres.sql, closedMs, stopped, 10)).visitors).toBe(20)
    expect((await purgeClosedDays(postgres.sql, closedMs, undefined, 10)).visitors).toBe(5)
    const left =
      await postgres.sql`SELECT day::text, count(*)::int AS visitors FROM cookieless_visitor GROUP BY day`
    expect([...left]).toEqual([{ day: '2026-03-10', visitors: 25 }] as never)
  })

  test('the tombstone of a day goes after a month', async () => {
    await new Salts(postgres.sql).open(NOON)
    await purgeClosedDays(postgres.sql, NOON + 10 * DAY_MS)
    expect((await postgres.sql`SELECT FROM cookieless_salt`).length).toBe(5)
    await purgeClosedDays(postgres.sql, NOON + 50 * DAY_MS)
    expect((await postgres.sql`SELECT FROM cookieless_salt`).length).toBe(0)
  })

  test('a process looks by itself, waits while Postgres is away, and stops', async () => {
    const salts = new Salts(postgres.sql)
    await salts.open(NOON)
    const failures: unknown[] = []
    let sql = openPostgres({ url: { socketDir: '/nowhere' }, name: 'away', connectionsMax: 1 })
    const warnings: string[] = []
    const logger = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(line) })
    const common = {
      salts,
      now: () => NOON + 10 * DAY_MS,
      fatal: (error: unknown) => void failures.push(error),
      lookMs: 20,
    }
    const away = startPurge({ ...common, sql, logger })
    await waitFor('a warning', async () => warnings.length > 0, 20_000)
    await away.stop()
    await sql.end({ timeout: 0 })
    sql = openPostgres({ url: postgres.url, name: 'purge', connectionsMax: 2 })
    const purge = startPurge({ ...common, sql, logger: QUIET })
    await waitFor(
      'the salts to go',
      async () => {
        const [row] = await postgres.sql`SELECT count(salt)::int AS left FROM cookieless_salt`
        return row!.left === 0
      },
      20_000,
    )
    await purge.stop()
    await sql.end()
    expect(failures).toEqual([])
  })
})

describe('two processes', () => {
  async function runBoth(runs: VisitorRun[]): Promise<VisitorReport[]> {
    const program = join(import.meta.dir, 'visitor-process.fixture.ts')
    const children = runs.map((run) =>
      Bun.spawn([process.execPath, program, postgres.url.socketDir, JSON.stringify(run)], {
        stderr: 'inherit',
      }),
    )
    return Promise.all(
      children.map(async (child) => {
        const text = await new Response(child.stdout).text()
        expect(await child.exited).toBe(0)
        return JSON.parse(text)
      }),
    )
  }

  test('agree on salts and sessions of visitors that both see, over the border of a day', async () => {
    const ips = Array.from({ length: 20 }, (_, i) => `10.0.1.${i}`)
    const minutes = Array.from({ length: 12 }, (_, i) => -30 + i * 5)
    const run = (shiftMs: number): VisitorRun => ({
      batches: minutes.map((minute) => {
        const timestampMs = MIDNIGHT + minute * MINUTE_MS + shiftMs
        return { nowMs: timestampMs, seen: ips.map((ip) => seen(ip, timestampMs)) }
      }),
    })
    const [one, other] = await runBoth([run(0), run(1_000)])
    expect(one!.salts).toEqual(other!.salts)
    for (const [, i] of ips.entries().map(([i, ip]) => [ip, i] as const)) {
      const of = (report: VisitorReport, before: boolean): CookielessIds[] =>
        report.ids.filter((_, batch) => minutes[batch]! < 0 === before).map((ids) => ids[i]!)
      for (const before of [true, false]) {
        const all = [...of(one!, before), ...of(other!, before)]
        expect(new Set(all.map(({ distinctId }) => distinctId)).size).toBe(1)
        expect(new Set(all.map(({ sessionId }) => sessionId)).size).toBe(1)
      }
      expect(of(one!, true)[0]!.distinctId).not.toBe(of(one!, false)[0]!.distinctId)
      expect(of(one!, true)[0]!.sessionId).not.toBe(of(one!, false)[0]!.sessionId)
    }
    // The last activity is the latest of both, and neither's write is lost.
    const rows = await postgres.sql`SELECT day::text, active_ms FROM cookieless_visitor`
    expect(rows.length).toBe(40)
    for (const { day, active_ms } of rows) {
      const last = day === '2026-03-09' ? minutes.filter((minute) => minute < 0).at(-1)! : minutes.at(-1)!
      expect(active_ms).toBe(MIDNIGHT + last * MINUTE_MS + 1_000)
    }
  })

  test('count every $identify of a visitor that both see, and give each of its persons an id of its own', async () => {
    const batches = 15
    const run = (who: string): VisitorRun => ({
      batches: Array.from({ length: batches }, (_, i) => ({
        nowMs: NOON,
        seen: [seen('10.0.2.1', NOON, { says: `${who}-${i}` })],
      })),
    })
    const reports = await runBoth([run('a'), run('b')])
    const anonymous = reports.flatMap((report) => report.ids.flat().map(({ distinctId }) => distinctId))
    expect(new Set(anonymous).size).toBe(2 * batches)
    const [row] = await postgres.sql`SELECT identifies, version FROM cookieless_visitor`
    expect(row).toEqual({ identifies: 2 * batches, version: 2 * batches } as never)
  })
})

/** A visit at NOON under the salts of the database. */
function visitAt(ip: string, salts: DaySalts): Visit {
  const outcome = judge(eventOf(seen(ip, NOON)), { enabled: true, nowMs: NOON, salts })
  if (outcome.kind !== 'pass') throw new Error('the event was not passed')
  return outcome.value.visit!
}

describe('a batch', () => {
  test('writes its visitors with its fence, or neither', async () => {
    const [one, other] = [new VisitorProcess(postgres.sql), new VisitorProcess(postgres.sql)]
    await one.process([seen('1.1.1.1', NOON)], NOON)
    await other.process([seen('1.1.1.1', NOON + MINUTE_MS)], NOON)
    const write = [{ d: '2026-03-10', t: 1, h: '0'.repeat(32), n: 0, c: '0'.repeat(32), e: 7 }]
    const failed = transaction(postgres.sql, async (tx) => {
      await tx`UPDATE ingest_fence SET next_offset = 99`
      await tx`SELECT apply_visitors(${JSON.stringify(write)}::text::jsonb)`
    })
    expect(await failed.catch((error) => error.code)).toBe('HR002')
    const fences = await postgres.sql`SELECT next_offset FROM ingest_fence`
    expect(fences.map((fence) => fence.next_offset)).toEqual([1, 1])
  })

  test('one statement can carry it, behind the locks of apply_batch', async () => {
    await new VisitorProcess(postgres.sql).process([seen('1.1.1.1', NOON)], NOON)
    const [row] =
      await postgres.sql`SELECT day::text, team_id, base_hash, current_hash FROM cookieless_visitor`
    const write = { d: row!.day, t: 1, h: row!.base_hash, n: 0, c: row!.current_hash }
    const together = (version: number) => postgres.sql`
      SELECT b.moved, apply_visitors(${JSON.stringify([{ ...write, e: version }])}::text::jsonb)
      FROM (SELECT pg_advisory_xact_lock(7) IS NULL AS moved OFFSET 0) b`
    expect(await together(2).catch((error) => error.code)).toBe('HR002')
    await together(1)
    expect(await together(1).catch((error) => error.code)).toBe('HR002')
  })

  test('the ids that its visitors have now come with the read of its persons', async () => {
    const process = new VisitorProcess(postgres.sql)
    const salts = await process.salts.open(NOON)
    await process.process([seen('1.1.1.1', NOON), seen('2.2.2.2', NOON, { says: 'alice' })], NOON)
    const [{ distinctId }] = (await process.process([seen('2.2.2.2', NOON)], NOON)) as [CookielessIds]
    const visits = ['1.1.1.1', '2.2.2.2', '3.3.3.3'].map((ip) => {
      return visitAt(ip, salts)
    })
    const wanted = wantedVisitors([...visits, ...visits])
    expect(wanted).toHaveLength(3)
    const ids = await postgres.sql`SELECT * FROM visitor_distinct_ids(${visitorsJson(wanted)}::text::jsonb)`
    expect([...ids]).toEqual([{ team_id: 1, distinct_id: distinctId }] as never)
  })

  test('a lock on its visitors holds up who would change them', async () => {
    const process = new VisitorProcess(postgres.sql)
    await process.process([seen('1.1.1.1', NOON)], NOON)
    const salts = await process.salts.open(NOON)
    const wanted = wantedVisitors([visitAt('1.1.1.1', salts)])
    const order: string[] = []
    let waiting: Promise<unknown> = Promise.resolve()
    await transaction(postgres.sql, async (tx) => {
      await lockVisitors(tx, wanted)
      const other = new VisitorProcess(postgres.sql)
      waiting = other.process([seen('1.1.1.1', NOON + MINUTE_MS)], NOON).then(() => order.push('other'))
      await waitFor(
        'the other to wait',
        async () => {
          const [row] =
            await postgres.sql`SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`
          return row!.n > 0
        },
        10_000,
      )
      order.push('locked')
    })
    await waiting
    expect(order).toEqual(['locked', 'other'])
  })
})
