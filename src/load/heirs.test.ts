/** What an heir does with the intents of an owner that died, stopped, or left something odd behind (I1, I2). */
import { describe, expect, test } from 'bun:test'
import { waitFor } from '../../test/support/wait-for.ts'
import { openPostgres } from '../catalog/index.ts'
import { EVENTS, TOPICS } from '../event/index.ts'
import type { LoadFailpoint } from '../platform/index.ts'
import { bench, benchForEachTest, servers, stored } from './bench.fixture.ts'
import { ALONE_MS_MAX } from './deliver.ts'
import { holdIntent } from './hold-intent.ts'
import { PARTITIONS } from './load.fixture.ts'
import { Pace } from './pace.ts'

benchForEachTest()

async function openIntents(): Promise<{ id: string; rows: number }[]> {
  return bench.sql`SELECT id, rows FROM load_intent WHERE state = 'open' AND table_name = 'events' ORDER BY created_at`
}

/** Runs a loader that dies at `step` of its first cut. */
async function dieAt(step: LoadFailpoint): Promise<void> {
  const child = bench.spawn(step, 'SIGKILL')
  await child.exited
  expect(child.signalCode).toBe('SIGKILL')
}

async function expectAllOnce(rows: number): Promise<void> {
  await bench.waitForRows(rows)
  await bench.waitForSettled()
  expect(await bench.stored()).toEqual({ rows, sources: rows })
}

describe('the owner is killed', () => {
  for (const step of ['intent_written', 'locked', 'inserted', 'done'] as const) {
    test(`after "${step}": the heir finishes, nothing is lost and nothing is there twice`, async () => {
      for (const raw of bench.raw) await bench.producer.send(raw.rows(stored(100)))
      await dieAt(step)
      if (step === 'done') {
        // The mark was in a transaction that the kill did not commit.
        await waitFor('the lock to fall', async () => (await openIntents()).length === 1, 10_000)
      }
      const open = await openIntents()
      expect(open.length).toBe(1)
      for (const raw of bench.raw) await bench.producer.send(raw.rows(stored(10)))
      const load = await bench.load()
      await expectAllOnce(110 * PARTITIONS)
      expect((await bench.intents()).repair).toBeUndefined()
      expect(await load.notReady()).toBeUndefined()
      const [settled] = await bench.sql`SELECT state FROM load_intent WHERE id = ${open[0]!.id}`
      expect(settled!.state).toBe('done')
    })
  }

  test('while it is stopped, its lock falls, the heir settles, and the sleeper that wakes changes nothing', async () => {
    await bench.producer.send(bench.raw[0]!.rows(stored(100)))
    const sleeper = bench.spawn('locked', 'SIGSTOP')
    await waitFor('the intent', async () => (await openIntents()).length === 1, 20_000)
    const id = (await openIntents())[0]!.id
    const locked = async () =>
      bench.sql.begin(async (tx) => {
        const free = await tx`SELECT 1 FROM load_intent WHERE id = ${id} FOR UPDATE SKIP LOCKED`
        return free.length === 0
      })
    await waitFor('the lock', locked, 5_000)
    // The embedded log leaves its partitions to a stopped member; a Kafka would not: settle as its heir does.
    const { settlePartition } = await import('./settle.ts')
    const pace = new Pace({ everyMs: 200, busyPercent: 100, bytesMax: 2 ** 20, share: () => 1 })
    const rest = {
      logIds: bench.ids,
      clock: Date.now,
      blocked: () => {},
      settling: () => {},
      reached: () => {},
      pace,
    }
    const deps = { ...bench.deps(), ...rest }
    await waitFor(
      'the heir',
      async () => {
        try {
          const of = { logId: bench.ids.get(TOPICS.events)!, partition: 0 }
          await settlePartition(deps, 'events', of, new AbortController().signal)
          return true
        } catch (error) {
          expect((error as { code?: string }).code).toBe('HR_STATE_CONFLICT')
          return false
        }
      },
      20_000,
    )
    expect(await bench.stored()).toEqual({ rows: 100, sources: 100 })
    sleeper.kill('SIGCONT')
    await bench.producer.send(bench.raw[0]!.rows(stored(20)))
    await expectAllOnce(120)
    const [settled] = await bench.sql`SELECT state FROM load_intent WHERE id = ${id}`
    expect(settled!.state).toBe('done')
  })
})

describe('an owner is late', () => {
  test('its lock came late: what an heir may have sent meanwhile, it does not send again', async () => {
    let late = false
    const rows = bench.raw[0]!.rows(stored(100))
    await bench.producer.send(rows)
    await bench.load({
      async reached(step) {
        if (step !== 'intent_written' || late) return
        const [open] = await openIntents()
        // As if an heir had sent them so long ago that the token is forgotten, and had died.
        if (open?.rows !== 100) return
        late = true
        await bench.warehouse.insertRows({
          table: EVENTS,
          rows: rows.map(({ value }) => value),
          token: Bun.randomUUIDv7(),
        })
        await bench.sql`
          UPDATE load_intent SET created_at = clock_timestamp() - ${ALONE_MS_MAX} * interval '1 millisecond'
          WHERE id = ${open.id}`
      },
    })
    await expectAllOnce(100)
    expect(late).toBe(true)
  })

  test('it lost its lock while it slept: it hears of that when it asks, which it does before it sends', async () => {
    const sql = openPostgres({ url: servers.postgres.url, name: 'load-late', connectionsMax: 2 })
    const id = Bun.randomUUIDv7()
    await bench.sql`
      INSERT INTO load_intent (id, table_name, ranges, rows, bytes, checksum) VALUES (${id}, 'events', '[]', 1, 1, 1)`
    const heard: unknown[] = []
    try {
      const held = holdIntent(sql, id, async ({ confirm }) => {
        heard.push((await confirm())())
        await bench.sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'load-late%'`
        heard.push(await confirm().catch(({ code }) => code))
      })
      await expect(held).rejects.toMatchObject({ class: 'retriable' })
      expect(heard).toEqual([undefined, 'HR_LOAD_LOCK_LOST'])
    } finally {
      await sql.end({ timeout: 1 })
    }
  })
})

describe('an open intent is odd', () => {
  const insertByHand = async (count: number) => {
    const other = bench.raw[0]!
    const rows = other.rows(stored(100))
    await bench.producer.send(rows)
    await dieAt('intent_written')
    if (count > 0) {
      await bench.warehouse.insertRows({
        table: EVENTS,
        rows: rows.slice(0, count).map(({ value }) => value),
        token: Bun.randomUUIDv7(),
      })
    }
  }
  const age = () => bench.sql`UPDATE load_intent SET created_at = now() - interval '1 day'`

  test('all its rows are there: done without another insert', async () => {
    await insertByHand(100)
    await age()
    await bench.load()
    await expectAllOnce(100)
  })

  test('none is there, however old it is: it is sent', async () => {
    await insertByHand(0)
    await age()
    await bench.load()
    await expectAllOnce(100)
    expect(await bench.intents()).toEqual({ done: 1 })
  })

  test('part of a month is there, which no insert of ours explains: repair, and the partition goes on', async () => {
    await insertByHand(40)
    await bench.load()
    await waitFor('repair', async () => (await bench.intents()).repair === 1, 20_000)
    await bench.producer.send(bench.raw[0]!.rows(stored(10)))
    await bench.waitForRows(50)
    expect(await bench.stored()).toEqual({ rows: 50, sources: 50 })
    const [intent] = await bench.sql`SELECT error FROM load_intent WHERE state = 'repair'`
    expect(intent!.error).toMatch(/a part of its rows of one month is there/)
  })

  test('the log gives other bytes: repair, and the partition stops', async () => {
    await insertByHand(0)
    await bench.sql`UPDATE load_intent SET checksum = checksum + 1`
    const load = await bench.load()
    await waitFor('a halt', async () => (await load.notReady()) !== undefined, 20_000)
    expect(await load.notReady()).toMatch(/cannot be sent again: the log gives 100 rows/)
    expect(await bench.intents()).toEqual({ repair: 1 })
    expect(await bench.stored()).toEqual({ rows: 0, sources: 0 })
  })

  test('another owner moved the fence: the cut is given up and nothing is there twice', async () => {
    const load = await bench.load()
    await bench.producer.send(bench.raw[0]!.rows(stored(10)))
    await expectAllOnce(10)
    // As if a second owner had loaded the next five rows: its rows, its intent (done), its fence.
    const next = bench.raw[0]!.rows(stored(5))
    await bench.warehouse.insertRows({
      table: EVENTS,
      rows: next.map(({ value }) => value),
      token: Bun.randomUUIDv7(),
    })
    await bench.sql`
      UPDATE load_fence SET next_offset = 15, last = ${JSON.stringify({ [bench.rawId]: [14, 0] })}::text::jsonb
      WHERE topic = 'events' AND partition = 0`
    await bench.producer.send(next)
    await bench.producer.send(bench.raw[0]!.rows(stored(5)))
    await expectAllOnce(20)
    expect(await load.notReady()).toBeUndefined()
  })
})
