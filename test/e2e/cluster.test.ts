/**
 * The distributed form under unmodified SDKs: Kafka with three brokers, Postgres and ClickHouse by URL, every role a
 * process of its own, two ingest and two load processes. While the SDKs send, one of each is killed and one of each
 * is paused for longer than the group's session; every event is stored once all the same.
 * `HEADRACE_TEST_PAUSE_MS` sets the pause (15 s; the long form uses 30 s).
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { type Cluster, startCluster } from '../support/cluster.ts'
import { skipKafka } from '../support/kafka.ts'
import { missing } from '../support/tools.ts'
import { Pages } from './sdks/browser.ts'
import { type Drive, driveNode, drivePython, type Report } from './sdks/drive.ts'
import { expectExactlyOnce, freshness, type Sent, untilStored } from './sdks/expect.ts'
import { Wire } from './sdks/wire.ts'

const EVENTS = Number(process.env.HEADRACE_TEST_EVENTS ?? 1_000)
const PAUSE_MS = Number(process.env.HEADRACE_TEST_PAUSE_MS ?? 15_000)
const STORED_WITHIN_MS = 90_000
const TEST_MS = 300_000

describe.skipIf(skipKafka())('I1, I2, I5: two of each on Kafka, one killed, one paused', () => {
  let cluster: Cluster
  const sent: Sent[] = []

  beforeAll(async () => {
    cluster = await startCluster({ brokers: 3, partitions: 16, ingest: 2, load: 2 })
  }, TEST_MS)

  afterAll(async () => {
    await cluster?.stop()
  }, TEST_MS)

  const target = (name: string, users: number) => ({
    name,
    host: cluster.captureUrl,
    token: cluster.token,
    events: EVENTS,
    users,
  })

  test(
    'SDKs report no error while roles die and sleep',
    async () => {
      const pids = await cluster.pids()
      const drives: Promise<Report>[] = [driveNode(target('node', 10))]
      sent.push({ name: 'node', events: EVENTS, users: 10 })
      if (missing('python') === undefined) {
        drives.push(drivePython(target('python', 10), { mode: 'v0', compression: 'gzip' }))
        sent.push({ name: 'python', events: EVENTS, users: 10 })
      }
      await Bun.sleep(500)
      for (const name of ['ingest-1', 'load-1']) process.kill(pids[name]!, 'SIGKILL')
      for (const name of ['ingest-2', 'load-2']) process.kill(pids[name]!, 'SIGSTOP')
      if (missing('chromium') === undefined) {
        drives.push(driveBrowser(target('browser', 5)))
        sent.push({ name: 'browser', events: EVENTS, users: 5 })
      }
      const [reports] = await Promise.all([Promise.all(drives), Bun.sleep(PAUSE_MS)])
      for (const name of ['ingest-2', 'load-2']) process.kill(pids[name]!, 'SIGCONT')
      expect(reports.flatMap(({ failures }) => failures)).toEqual([])
    },
    TEST_MS,
  )

  test(
    'every event is stored once, every person is one, the audit is exact',
    async () => {
      await untilStored(cluster.sql, sent, STORED_WITHIN_MS)
      await cluster.ready()
      for (const one of sent) await expectExactlyOnce(cluster.sql, one)
      const { p50, p99 } = await freshness(cluster.sql)
      console.log(
        `${sent.length * EVENTS} events of ${sent.length} SDKs; capture to queryable p50 ${p50} ms, p99 ${p99} ms (roles were down for ${PAUSE_MS} ms)`,
      )
      const audit = await cluster.run('audit', '--json')
      expect({ code: audit.code, stderr: audit.stderr }).toEqual({ code: 0, stderr: '' })
    },
    TEST_MS,
  )
})

/** posthog-js in Chromium, which sends by fetch and, when it leaves a page, by sendBeacon. */
async function driveBrowser(drive: Drive): Promise<Report> {
  const pages = await Pages.start()
  const wire = new Wire(drive.host)
  try {
    return await pages.driveJs({ ...drive, host: wire.url }, wire, {
      transport: 'fetch',
      compression: 'gzip',
    })
  } finally {
    await pages.close()
    await wire.stop()
  }
}
