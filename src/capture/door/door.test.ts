/** The door with a real catalogue: tokens, policies that change, quotas, and the account of what was refused. */
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test'
import { startTestCapture, type TestCapture } from '../../../test/support/capture.ts'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import {
  createProject,
  listRejectedRequests,
  listUsage,
  NO_PROJECT,
  openPostgres,
  ProjectCatalog,
  type ProjectPolicy,
  ProjectUsage,
  RejectedRequests,
  type Sql,
  setPolicy,
} from '../../catalog/index.ts'

setDefaultTimeout(60_000)

/** What the product promises for a change to be seen everywhere. */
const LIVE_WITHIN_MS = 5_000
/** So that no test takes a slow machine for a Postgres that is away. */
const PATIENT_MS = 20_000

let server: TestPostgres
let teamId: number
const open: { stop(): Promise<void> }[] = []

beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`TRUNCATE project, project_usage, rejected_request`
  teamId = (await createProject(server.sql, { name: 'shop', token: 'shop' })).teamId
})
afterEach(async () => {
  for (const one of open.splice(0)) await one.stop()
})
afterAll(() => server.stop())

type Door = TestCapture & { usage: ProjectUsage; rejectedRequests: RejectedRequests }

/** A capture process as the wiring makes it. */
async function start(sql: Sql = server.sql, findMs = PATIENT_MS): Promise<Door> {
  const catalog = new ProjectCatalog(sql, { unknownMs: 2_000, findMs })
  const usage = new ProjectUsage(sql)
  const rejectedRequests = new RejectedRequests(sql)
  const capture = await startTestCapture({}, { projects: catalog, account: { usage, rejectedRequests } })
  open.push({
    async stop() {
      await capture.stop()
      await Promise.all([catalog.close(), usage.close(), rejectedRequests.close()])
    },
  })
  return { ...capture, usage, rejectedRequests }
}

const batch = (count: number, event: object = {}, token = 'shop') => ({
  api_key: token,
  batch: Array.from({ length: count }, () => ({ event: 'e', distinct_id: 'd', ...event })),
})

async function answer(response: Response): Promise<[status: number, body: Record<string, unknown>]> {
  return [response.status, (await response.json()) as Record<string, unknown>]
}

/** Sends until the policy shows. */
async function untilRuled(policy: ProjectPolicy | undefined, holds: () => Promise<boolean>) {
  await setPolicy(server.sql, 'shop', policy)
  await waitFor(`the effect of ${JSON.stringify(policy)}`, holds, LIVE_WITHIN_MS)
}

const rejectedCount = async (capture: TestCapture, body: object) =>
  (await answer(await capture.post('/batch', body)))[1].rejected_count

describe('tokens', () => {
  test('a project lets its events in, also with blanks around; others are refused with one sentence', async () => {
    const capture = await start()
    expect((await capture.post('/batch', batch(1, {}, ' shop\n'))).status).toBe(200)
    const [status, body] = await answer(await capture.post('/batch', batch(1, {}, 'nobody')))
    expect([status, body.code]).toEqual([401, 'HR_CAPTURE_UNKNOWN_TOKEN'])
    expect(body.detail).toBeString()
    expect((await capture.stored()).map(({ header }) => header.token)).toEqual(['shop'])
  })

  test('a project that was just made is let in within seconds', async () => {
    const capture = await start()
    expect((await capture.post('/batch', batch(1, {}, 'new'))).status).toBe(401)
    await createProject(server.sql, { name: 'new', token: 'new' })
    const taken = async () => (await capture.post('/batch', batch(1, {}, 'new'))).status === 200
    await waitFor('the new project', taken, LIVE_WITHIN_MS)
  })

  test('while Postgres is away known tokens go on, and unknown ones are left to ingest', async () => {
    const own = await startTestPostgres()
    const sql = openPostgres({ url: own.url, name: 'test', connectionsMax: 3 })
    try {
      await createProject(own.sql, { name: 'shop', token: 'shop' })
      await setPolicy(own.sql, 'shop', { restrictions: [{ action: 'drop', events: ['unwanted'] }] })
      const capture = await start(sql, 500)
      const known = async () => (await rejectedCount(capture, batch(1, { event: 'unwanted' }))) === 1
      await waitFor('the project to be known', known, LIVE_WITHIN_MS)
      await own.kill()
      expect((await capture.post('/batch', batch(1))).status).toBe(200)
      expect(await rejectedCount(capture, batch(1, { event: 'unwanted' }))).toBe(1)
      expect((await capture.post('/batch', batch(1, {}, 'unknown'))).status).toBe(200)
      const stored = await capture.stored()
      expect(stored.map(({ header }) => header.token).filter((token) => token === 'unknown')).toHaveLength(1)
    } finally {
      for (const one of open.splice(0)) await one.stop()
      await sql.end({ timeout: 1 })
      await own.stop()
    }
  })
})

describe('policies, live within 5 s', () => {
  test('a restriction drops, is told as such with 200, and ends when it is removed', async () => {
    const capture = await start()
    await capture.post('/batch', batch(1))
    const dropped = async () => (await rejectedCount(capture, batch(1))) === 1
    await untilRuled({ restrictions: [{ action: 'drop', events: ['e'] }] }, dropped)
    const mixed = {
      api_key: 'shop',
      batch: [
        { event: 'e', distinct_id: 'd' },
        { event: 'other', distinct_id: 'd' },
        { event: 'x', distinct_id: 'd', uuid: 1 },
      ],
    }
    const [status, body] = await answer(await capture.post('/batch', mixed))
    expect([status, body.status, body.quota_limited]).toEqual([200, 'Ok', undefined])
    expect(body.rejected).toMatchObject([
      { index: 0, reason: 'restricted' },
      { index: 2, reason: 'invalid_uuid' },
    ])
    await untilRuled(undefined, async () => !(await dropped()))
  })

  test('dead letters, the lane of imports and persons, as the header and the topic show', async () => {
    const capture = await start()
    await setPolicy(server.sql, 'shop', {
      restrictions: [
        { action: 'dead_letter', events: ['dead'] },
        { action: 'historical', distinct_ids: ['old'] },
        { action: 'skip_person_processing', events: ['anonymous'] },
      ],
    })
    const events = [{ event: 'dead' }, { distinct_id: 'old' }, { event: 'anonymous' }, {}]
    for (const event of events) await capture.post('/batch', batch(1, event))
    const stored = await capture.stored()
    expect(
      stored
        .map(({ topic, header }) =>
          [header.event, topic, header.disposition, header.personProcessing].join(' '),
        )
        .sort(),
    ).toEqual([
      'anonymous raw_events event forcedOff',
      'dead raw_events deadLetter on',
      'e raw_events event on',
      'e raw_events_historical event on',
    ])
  })

  test('a rate lets a burst in, and tells the rest with 200 and quota_limited', async () => {
    const capture = await start()
    await setPolicy(server.sql, 'shop', { events_per_second: 1, burst: 5 })
    const [status, body] = await answer(await capture.post('/batch', batch(20)))
    expect([status, body.quota_limited]).toEqual([200, ['events']])
    expect(body.rejected).toHaveLength(15)
    expect(body.rejected).toMatchObject([{ index: 5, reason: 'rate_limited' }, ...new Array(14).fill({})])
    const [again, more] = await answer(await capture.post('/batch', batch(3)))
    expect([again, more.quota_limited]).toEqual([200, ['events']])
    expect((await capture.stored()).length).toBeLessThan(8)
  })

  test('a policy that cannot be read keeps no event out', async () => {
    await server.sql`UPDATE project SET settings = '{"policy": {"restrictions": [{"action": "teleport"}]}}'`
    const capture = await start()
    expect(await answer(await capture.post('/batch', batch(1)))).toEqual([200, { status: 'Ok' }])
  })
})

describe('a quota', () => {
  test('is counted by two processes together, survives both, and ends with a larger one', async () => {
    await setPolicy(server.sql, 'shop', { events_per_month: 10 })
    const [one, two] = [await start(), await start()]
    expect(await rejectedCount(one, batch(4))).toBeUndefined()
    expect(await rejectedCount(two, batch(5))).toBeUndefined()
    await one.usage.step()
    await two.usage.step()
    await one.usage.step()
    const [status, body] = await answer(await two.post('/batch', batch(3)))
    expect([status, body.quota_limited]).toEqual([200, ['events']])
    expect(body.rejected).toMatchObject([
      { index: 1, reason: 'quota_exceeded' },
      { index: 2, reason: 'quota_exceeded' },
    ])
    for (const capture of open.splice(0)) await capture.stop()
    const [usage] = await listUsage(server.sql)
    expect([usage!.teamId, usage!.stored, usage!.refused]).toEqual([teamId, 10, 2])

    const three = await start()
    // The sum is asked for at the first request, and known when it is there.
    const full = async () => (await rejectedCount(three, batch(1))) === 1
    await waitFor('the quota of before', full, LIVE_WITHIN_MS)
    await untilRuled({ events_per_month: 1_000 }, async () => !(await full()))
  })

  test('what the log did not take is not counted', async () => {
    const capture = await start()
    await setPolicy(server.sql, 'shop', { events_per_month: 2 })
    await capture.log.deleteTopic('raw_events')
    expect((await capture.post('/batch', batch(2))).status).toBeGreaterThanOrEqual(500)
    expect(capture.usage.meter(teamId, Date.now()).used).toBe(0)
  })
})

describe('the account of what was refused', () => {
  test('a report into the log: at once the first, with a sample, and the sum of the rest at the end', async () => {
    const capture = await start()
    const event = {
      event: 'paid',
      distinct_id: 'ada',
      uuid: 'no uuid',
      properties: { $lib: 'web', $lib_version: '1' },
    }
    const body = { api_key: 'shop', batch: [{ ...event, uuid: undefined }, event, event] }
    await capture.post('/batch', body, { 'x-request-id': 'req-1' })
    await waitFor('the report', async () => (await capture.reports()).length === 1, LIVE_WITHIN_MS)
    const [report] = await capture.reports()
    expect(report).toMatchObject({ type: 'events_rejected', reason: 'invalid_uuid', count: 2 })
    expect(report!.sample).toEqual({
      message: expect.stringContaining('UUID'),
      path: '/batch',
      requestId: 'req-1',
      sdk: 'web/1',
      index: 1,
      field: 'uuid',
      uuid: 'no uuid',
      distinctId: 'ada',
      event: 'paid',
    })
    for (let i = 0; i < 5; i++) await capture.post('/batch', body)
    expect(await capture.reports()).toHaveLength(1)
  })

  test('a request that is refused as a whole is told when its project is known', async () => {
    const capture = await start()
    await capture.post('/batch', batch(1))
    expect((await capture.post('/batch', '{"api_key":"shop","batch":[')).status).toBe(400)
    expect((await capture.post('/batch', '{"api_key":"nobody","batch":[')).status).toBe(400)
    await waitFor('the report', async () => (await capture.reports()).length > 0, LIVE_WITHIN_MS)
    expect(await capture.reports()).toMatchObject([
      { type: 'requests_refused', reason: 'HR_CAPTURE_NOT_JSON', count: 1, sample: { path: '/batch' } },
    ])
  })

  test('refused requests are kept for support, by project, without secret keys', async () => {
    const capture = await start()
    await capture.post('/batch', batch(1))
    const headers = { 'user-agent': 'posthog-python/7', 'x-request-id': 'req-2' }
    const invalid = { event: 'paid', distinct_id: 'ada', uuid: 7 }
    await capture.post(
      '/batch',
      { api_key: 'shop', batch: [{ event: 'e', distinct_id: 'd' }, invalid] },
      headers,
    )
    await capture.post('/batch', '{"api_key":"shop","batch":[', headers)
    await capture.post('/batch', batch(1, {}, 'phx_verysecret'), headers)
    await capture.post('/batch', batch(1, {}, 'nobody'), headers)
    await capture.rejectedRequests.step()
    const common = { path: '/batch', userAgent: 'posthog-python/7', requestId: 'req-2' }
    const kept = await listRejectedRequests(server.sql, teamId)
    expect(kept).toMatchObject([
      { ...common, status: 400, code: 'HR_CAPTURE_NOT_JSON', reasons: {}, token: 'shop', bodyBytes: 27 },
      { ...common, status: 200, code: '', reasons: { invalid_uuid: 1 }, sample: JSON.stringify(invalid) },
    ])
    expect(kept[0]!.sample).toBe('{"api_key":"shop","batch":[')
    const others = await listRejectedRequests(server.sql, NO_PROJECT)
    expect(others.map(({ status, code, token }) => [status, code, token])).toEqual([
      [401, 'HR_CAPTURE_UNKNOWN_TOKEN', 'nobody'],
      [401, 'HR_CAPTURE_INVALID_TOKEN', 'phx_…'],
    ])
    expect(JSON.stringify(others)).not.toContain('verysecret')
  })
})
