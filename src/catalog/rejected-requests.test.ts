import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import {
  listRejectedRequests,
  NO_PROJECT,
  REJECTED_REQUESTS_KEPT,
  type RejectedRequest,
  RejectedRequests,
} from './rejected-requests.ts'

setDefaultTimeout(60_000)

const NEVER = 2 ** 30

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`TRUNCATE rejected_request`
})
afterAll(() => server.stop())

function request(changes: Partial<RejectedRequest> = {}): RejectedRequest {
  return {
    teamId: 1,
    atMs: Date.UTC(2026, 10, 1),
    path: '/batch',
    status: 200,
    code: '',
    message: 'm',
    reasons: { invalid_uuid: 2 },
    ip: '10.0.0.1',
    userAgent: 'ua',
    sdk: 'web/1',
    requestId: 'r',
    token: 'phc_a',
    bodyBytes: 10,
    sample: '{"a":"ä"}',
    ...changes,
  }
}

/** Keeps those for which there is room, and says how many. */
function keep(requests: RejectedRequests, all: RejectedRequest[]): number {
  return all.filter((one) => {
    const room = requests.wants(one.teamId)
    if (room) requests.keep(one)
    return room
  }).length
}

test('a request comes back as it was kept, the newest first, by project', async () => {
  const requests = new RejectedRequests(server.sql, NEVER)
  const refused = request({
    teamId: NO_PROJECT,
    code: 'HR_X',
    status: 413,
    bodyBytes: undefined,
    reasons: {},
  })
  expect(keep(requests, [request(), refused, request({ path: '/e' })])).toBe(3)
  await requests.close()
  expect(await listRejectedRequests(server.sql)).toEqual([request({ path: '/e' }), refused, request()])
  expect(await listRejectedRequests(server.sql, NO_PROJECT)).toEqual([refused])
})

test('a flood is a bounded number of rows, and keeps no other project out', async () => {
  const requests = new RejectedRequests(server.sql, NEVER)
  expect(keep(requests, new Array(1_000).fill(request()))).toBe(10)
  expect(keep(requests, [request({ teamId: 2 })])).toBe(1)
  const teams = Array.from({ length: 1_000 }, (_, i) => request({ teamId: 3 + i }))
  expect(keep(requests, teams)).toBe(200 - 11)
  await requests.step()
  expect(keep(requests, [request()])).toBe(1)
  await requests.close()
  expect(await listRejectedRequests(server.sql)).toHaveLength(201)
})

test('the last hundred of each project stay', async () => {
  const requests = new RejectedRequests(server.sql, NEVER)
  keep(requests, [request({ teamId: 2 })])
  for (let round = 0; round < 13; round++) {
    keep(
      requests,
      Array.from({ length: 10 }, (_, i) => request({ path: String(round * 10 + i) })),
    )
    await requests.step()
  }
  await requests.close()
  const kept = await listRejectedRequests(server.sql, 1)
  expect(kept).toHaveLength(REJECTED_REQUESTS_KEPT)
  expect([kept[0]!.path, kept.at(-1)!.path]).toEqual(['129', '30'])
  expect(await listRejectedRequests(server.sql, 2)).toHaveLength(1)
})

test('it is written by itself', async () => {
  const requests = new RejectedRequests(server.sql, 5)
  keep(requests, [request()])
  await waitFor('a row', async () => (await listRejectedRequests(server.sql)).length === 1, 10_000)
  await requests.close()
})
