import { afterEach, expect, test } from 'bun:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import { type CaptureReport, decodeRawHeader, parseReport, viewOf } from '../../event/index.ts'
import type { SendRecord } from '../../log/index.ts'
import { Reports } from './reports.ts'

const PROJECT = { teamId: 1, token: 'phc_a' }
const SAMPLE = { message: 'm', path: '/e', requestId: 'r', sdk: 'web/1' }
const WITHIN_MS = 5_000

const open: Reports[] = []
afterEach(async () => {
  for (const reports of open.splice(0)) await reports.close()
})

/** Reports whose clock and log are in the test's hands. */
function start() {
  const world = { nowMs: 1_000, down: false, records: [] as SendRecord[], tries: 0 }
  const writer = {
    async write(records: SendRecord[]) {
      world.tries++
      if (world.down) throw new Error('the log is down')
      world.records.push(...records)
    },
  }
  const reports = new Reports({ writer, partitions: 4, clock: () => world.nowMs, tickMs: 2 })
  open.push(reports)
  const count = (reason: string, count: number, project = PROJECT) => {
    const tally = reports.count(project, 'events_rejected', reason, count, world.nowMs)
    if (tally) tally.sample ??= { ...SAMPLE, message: `${reason} at ${world.nowMs}` }
    return tally
  }
  const told = (): CaptureReport[] =>
    world.records.map(({ value }) => parseReport(Buffer.from(viewOf(value)).toString()))
  const untilTold = (reports: number) =>
    waitFor(`${reports} reports`, () => world.records.length === reports, WITHIN_MS)
  return { world, reports, count, told, untilTold }
}

test('one per minute and reason, each with the count since the one before and its first sample', async () => {
  const { world, count, told, untilTold } = start()
  count('invalid_uuid', 2)
  await untilTold(1)
  world.nowMs = 2_000
  count('invalid_uuid', 3)
  world.nowMs = 3_000
  count('invalid_uuid', 4)
  count('missing_event', 1)
  await untilTold(2)
  world.nowMs = 61_000
  await untilTold(3)
  expect(
    told().map(({ reason, count, fromMs, toMs, sample }) => [reason, count, fromMs, toMs, sample.message]),
  ).toEqual([
    ['invalid_uuid', 2, 1_000, 1_000, 'invalid_uuid at 1000'],
    ['missing_event', 1, 3_000, 3_000, 'missing_event at 3000'],
    ['invalid_uuid', 7, 2_000, 3_000, 'invalid_uuid at 2000'],
  ])
})

test('what the log does not take is kept with its sample, and told with what came since', async () => {
  const { world, count, told, untilTold } = start()
  world.down = true
  count('invalid_uuid', 2)
  await waitFor('a try', () => world.tries === 1, WITHIN_MS)
  count('invalid_uuid', 3)
  world.down = false
  expect(world.records).toEqual([])
  world.nowMs += 5_000
  await untilTold(1)
  expect(told()).toMatchObject([{ count: 5, sample: { message: 'invalid_uuid at 1000' } }])
})

test('the end does not wait for the minute', async () => {
  const { world, reports, count, told, untilTold } = start()
  count('invalid_uuid', 1)
  await untilTold(1)
  count('invalid_uuid', 8)
  await reports.close()
  expect(told().map((report) => report.count)).toEqual([1, 8])
  expect(world.records).toHaveLength(2)
})

test('the record is a report of the project, with an id of its own', async () => {
  const { world, count, untilTold } = start()
  count('a', 1)
  count('b', 1)
  await untilTold(2)
  const headers = world.records.map(({ header }) => decodeRawHeader(viewOf(header)))
  expect(headers[0]).toMatchObject({
    token: 'phc_a',
    disposition: 'report',
    sdk: 'web/1',
    requestId: 'r',
    nowMs: 1_000,
  })
  expect(headers[0]!.uuid).not.toBe(headers[1]!.uuid)
  // Order among the reports of a project holds only in one partition.
  expect(world.records[0]!.partition).toBe(world.records[1]!.partition)
})

test('a thousand projects at a time; room comes back when their minute is over', async () => {
  const { world, count, untilTold } = start()
  const counted = Array.from({ length: 1_001 }, (_, i) => count('a', 1, { teamId: i, token: `t${i}` }))
  expect(counted.filter((tally) => tally === undefined)).toHaveLength(1)
  await untilTold(1_000)
  world.nowMs += 60_000
  await waitFor('room', () => count('a', 1, { teamId: 5_000, token: 'late' }) !== undefined, WITHIN_MS)
})
