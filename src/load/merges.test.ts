/** Waiting for merges, on the real engine. */
import { expect, test } from 'bun:test'
import pino from 'pino'
import { waitFor } from '../../test/support/wait-for.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { bench, benchForEachTest, stored } from './bench.fixture.ts'
import { untilMerged } from './merges.ts'

benchForEachTest()

const command = (sql: string) => bench.warehouse.command(sql)

async function makeParts(count: number): Promise<void> {
  await command('SYSTEM STOP MERGES events')
  const load = await bench.load()
  for (let part = 1; part <= count; part++) {
    await bench.raw[0]!.batch(stored(1))
    await bench.waitForRows(part)
  }
  await load.stop()
}

test('it goes on when parts are merged, and not before', async () => {
  await makeParts(3)
  let merged = false
  const waiting = untilMerged(bench.deps(), 'events', new AbortController().signal).then(() => merged)
  await command('SYSTEM START MERGES events')
  await command('OPTIMIZE TABLE events FINAL')
  merged = true
  expect(await waiting).toBe(true)
})

test('while nothing is merged it goes on when it is told to stop', async () => {
  await makeParts(2)
  try {
    const stop = new AbortController()
    let ended = false
    const waiting = untilMerged(bench.deps(), 'events', stop.signal).then(() => {
      ended = true
    })
    // Longer than it takes to ask.
    const asked = performance.now() + 300
    await waitFor('it to have asked', () => performance.now() > asked, 5_000)
    expect(ended).toBe(false)
    stop.abort()
    await waiting
  } finally {
    await command('SYSTEM START MERGES events')
  }
})

test('a table whose parts nobody can tell holds up nothing', async () => {
  const from = performance.now()
  await untilMerged(bench.deps(), 'no_such_table', new AbortController().signal)
  expect(performance.now() - from).toBeLessThan(10_000)
})

test('a ClickHouse that does not say how many parts it has holds up nothing, and that is logged', async () => {
  const said: string[] = []
  const logger = pino({}, { write: (line: string) => void said.push(line) })
  const nobody = openWarehouse({ url: 'http://127.0.0.1:1' })
  try {
    await untilMerged({ warehouse: nobody, logger }, 'events', new AbortController().signal)
  } finally {
    await nobody.close()
  }
  expect(said.join()).toContain('ClickHouse does not say how many parts events has: ')
})
