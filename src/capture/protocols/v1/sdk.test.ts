/** v1 as the published posthog-node speaks it. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { PostHog } from 'posthog-node'
import { startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { waitFor } from '../../../../test/support/wait-for.ts'

setDefaultTimeout(60_000)

const MODE = 'POSTHOG_CAPTURE_MODE'
const modeBefore = process.env[MODE]
let captures: TestCapture[] = []

beforeAll(() => {
  process.env[MODE] = 'v1'
})
afterAll(() => {
  if (modeBefore === undefined) delete process.env[MODE]
  else process.env[MODE] = modeBefore
})
afterEach(async () => {
  for (const capture of captures) await capture.stop()
  captures = []
})

type Failure = { drops?: { uuid: string; details?: string }[]; retryExhausted?: string[] }

async function connect(
  ...args: Parameters<typeof startTestCapture>
): Promise<{ capture: TestCapture; client: PostHog; failures: Failure[]; paths: string[] }> {
  const capture = await startTestCapture(...args)
  captures.push(capture)
  const failures: Failure[] = []
  const paths: string[] = []
  const client = new PostHog('phc_test', {
    host: capture.url,
    fetchRetryDelay: 10,
    fetch: async (url: string, options: RequestInit) => {
      const response = await fetch(url, options)
      paths.push(new URL(url).pathname)
      return response
    },
  })
  client.on('error', (error: Failure) => failures.push(error))
  return { capture, client, failures, paths }
}

test('what it sends is stored in the shape of v0, with nothing to complain about', async () => {
  const { capture, client, failures, paths } = await connect()
  client.capture({
    distinctId: 'd1',
    event: 'with everything',
    properties: { a: 1, $session_id: 's1', $window_id: 'w1', $process_person_profile: false },
  })
  client.identify({ distinctId: 'd1', properties: { $set: { plan: 'pro' }, $anon_distinct_id: 'd0' } })
  client.groupIdentify({ groupType: 'company', groupKey: 'c1', distinctId: 'd1', properties: { size: 3 } })
  client.alias({ distinctId: 'd1', alias: 'd2' })
  client.capture({ distinctId: 'null', event: 'of nobody' })
  await client.shutdown()
  expect(failures).toEqual([])
  expect(new Set(paths)).toEqual(new Set(['/i/v1/analytics/events']))
  const stored = await capture.stored()
  const byName = new Map(stored.map((one) => [one.header.event, one]))
  expect([...byName.keys()].sort()).toEqual([
    '$create_alias',
    '$groupidentify',
    '$identify',
    'of nobody',
    'with everything',
  ])
  const { header, value } = byName.get('with everything')!
  expect(header).toMatchObject({ personProcessing: 'off', distinctId: 'd1', token: 'phc_test' })
  expect(header.sdk).toMatch(/^posthog-node\/\d/)
  expect(JSON.parse(value).properties).toMatchObject({
    a: 1,
    $session_id: 's1',
    $window_id: 'w1',
    $process_person_profile: false,
    $lib: 'posthog-node',
  })
  expect(byName.get('of nobody')!.header.personProcessing).toBe('forcedOff')
})

test('it hears of the event that was dropped, and only of that', async () => {
  const { capture, client, failures } = await connect()
  client.capture({ distinctId: 'x'.repeat(201), event: 'bad' })
  client.capture({ distinctId: 'd', event: 'good' })
  await client.shutdown()
  expect((await capture.stored()).map(({ header }) => header.event)).toEqual(['good'])
  expect(failures.map(({ drops, retryExhausted }) => [drops, retryExhausted])).toEqual([
    [[{ uuid: expect.any(String), details: 'distinct_id_too_large' }], []],
  ])
})

test('what was not persisted is sent again, and what was dropped is not', async () => {
  let usedRatio = 0.99
  const { capture, client, failures, paths } = await connect(
    {},
    { log: { operations: { diskUsedRatio: () => usedRatio } } },
  )
  client.capture({ distinctId: 'x'.repeat(201), event: 'bad' })
  client.capture({ distinctId: 'd', event: 'good' })
  const flushed = client.flush()
  await waitFor('the first answer', async () => paths.length > 0, 10_000)
  usedRatio = 0.5
  await flushed
  await client.shutdown()
  expect(paths.length).toBeGreaterThan(1)
  expect((await capture.stored()).map(({ header }) => header.event)).toEqual(['good'])
  expect(failures.map(({ drops, retryExhausted }) => [drops?.length, retryExhausted])).toEqual([[1, []]])
})
