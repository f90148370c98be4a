/** Each row: what an SDK asks for, and the answer that keeps it quiet. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { BrowserScripts } from './scripts.ts'

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture()
})
afterAll(() => capture.stop())

const get = (path: string, headers: Record<string, string> = {}) => fetch(capture.url + path, { headers })

describe('flags and decide by version', () => {
  const rows: [path: string, members: Record<string, unknown>][] = [
    ['/flags/', { featureFlags: {}, featureFlagPayloads: {} }],
    ['/flags/?v=1', { featureFlags: {}, featureFlagPayloads: {} }],
    ['/flags/?v=2', { flags: {} }],
    ['/flags/?v=4', { flags: {} }],
    ['/flags/?v=2&config=true', { flags: {}, supportedCompression: ['gzip', 'gzip-js'] }],
    ['/decide/', { featureFlags: [], autocapture_opt_out: false }],
    ['/decide/?v=1', { featureFlags: [] }],
    ['/decide/?v=2', { featureFlags: {} }],
    ['/decide/?v=3', { featureFlags: {}, featureFlagPayloads: {} }],
    ['/decide/?v=4', { flags: {} }],
  ]
  test.each(rows)('%s', async (path, members) => {
    const response = await capture.post(path, { token: 't', distinct_id: 'd' })
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ ...members, errorsWhileComputingFlags: false })
  })

  test('flags give each answer an id of its own', async () => {
    const ids = await Promise.all(
      [1, 2].map(
        async () => (await capture.post('/flags/?v=2', {})).json() as Promise<{ requestId: string }>,
      ),
    )
    expect(ids[0]!.requestId).not.toBe(ids[1]!.requestId)
  })
})

describe('what may be kept is asked for again with its etag', () => {
  const paths = [
    '/array/phc_a/config',
    '/array/phc_a/config.js',
    '/flags/definitions?token=phc_a&send_cohorts',
    '/api/feature_flag/local_evaluation?token=phc_a&send_cohorts=true',
    '/static/array.js',
  ]
  test.each(paths)('%s', async (path) => {
    const first = await get(path)
    expect(first.status).toBe(200)
    expect((await first.bytes()).length).toBeGreaterThan(10)
    const etag = first.headers.get('etag')!
    for (const shown of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const again = await get(path, { 'if-none-match': shown })
      expect(again.status).toBe(304)
      expect(again.headers.get('etag')).toBe(etag)
      expect(await again.text()).toBe('')
    }
    expect((await get(path, { 'if-none-match': '"other"' })).status).toBe(200)
  })
})

test('config.js sets the config of its token', async () => {
  const response = await get('/array/phc_a/config.js', { origin: 'https://shop.example' })
  expect(response.headers.get('content-type')).toStartWith('application/javascript')
  expect(response.headers.get('access-control-allow-origin')).toBe('https://shop.example')
  const window: { _POSTHOG_REMOTE_CONFIG?: Record<string, { config: object; siteApps: unknown[] }> } = {}
  new Function('window', await response.text())(window)
  const config = (await (await get('/array/phc_a/config')).json()) as object
  expect(window._POSTHOG_REMOTE_CONFIG).toEqual({ phc_a: { config, siteApps: [] } })
})

test('surveys is not in the config: posthog-js loads their script even for `false`', async () => {
  expect(Object.keys((await (await get('/array/t/config')).json()) as object)).not.toContain('surveys')
})

describe('the browser SDK for snippets', () => {
  const scripts = BrowserScripts.find(import.meta.dirname)!
  const major = scripts.version.split('.')[0]!

  test('comes as published, compressed for those who can', async () => {
    const published = await Bun.file(Bun.resolveSync('posthog-js/dist/array.js', import.meta.dirname)).text()
    const plain = await get('/static/array.js?v=1.2.3', { 'accept-encoding': 'identity' })
    expect(plain.headers.get('content-encoding')).toBeNull()
    expect(await plain.text()).toBe(published)
    const gzipped = await fetch(`${capture.url}/static/array.js`, {
      headers: { 'accept-encoding': 'gzip', origin: 'https://shop.example' },
      decompress: false,
    })
    expect(gzipped.headers.get('content-encoding')).toBe('gzip')
    expect(gzipped.headers.get('vary')).toBe('origin, accept-encoding')
    const bytes = await gzipped.bytes()
    expect(bytes.length).toBeLessThan(published.length / 2)
    expect(Buffer.from(Bun.gunzipSync(bytes)).toString()).toBe(published)
  })

  const rows: [path: string, status: number, cache: string | null][] = [
    ['/static/recorder.js?v=1.0.0', 200, 'public, max-age=3600'],
    [`/static/${major}/array.js`, 200, 'public, max-age=3600'],
    [`/static/${scripts.version}/array.js`, 200, 'public, max-age=31536000, immutable'],
    ['/static/0.1.0/array.js', 404, null],
    [`/static/${major.slice(0, -1)}9/array.js`, 404, null],
    ['/static/toolbar.js', 404, null],
    ['/static/main.d.ts', 404, null],
    ['/static/../package.json', 404, null],
    ['/static/..%2fpackage.json', 404, null],
    ['/static/', 404, null],
  ]
  test.each(rows)('%s: %d', async (path, status, cache) => {
    const response = await get(path)
    expect(response.status).toBe(status)
    expect(response.headers.get('cache-control')).toBe(cache)
    if (status === 404) expect(await response.json()).toMatchObject({ code: 'HR_CAPTURE_NOT_FOUND' })
  })

  test('a version is matched by whole numbers', () => {
    expect(scripts.script('array.js', scripts.version.slice(0, -1))).toBeUndefined()
    expect(scripts.script('array.js', `${scripts.version}1`)).toBeUndefined()
  })

  test('is told apart from a package that is not installed', () => {
    expect(BrowserScripts.find('/')).toBeUndefined()
  })
})

describe('what is not an event is not kept, and the sender is told so', () => {
  test('recordings: posthog-js stops for a minute', async () => {
    const response = await capture.post('/s/', [{ event: '$snapshot', properties: {} }])
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ quota_limited: ['recordings'] })
  })

  test.each(['logs', 'metrics', 'traces'])('%s', async (signal) => {
    const response = await capture.post(`/i/v1/${signal}?token=t`, {})
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      quota_limited: [signal],
      partialSuccess: { errorMessage: `Headrace stores events; ${signal} are not kept` },
    })
  })
})

const PLAIN: [path: string, status: number, body: unknown][] = [
  ['/api/surveys/?token=t', 200, { surveys: [] }],
  ['/api/product_tours/?token=t', 200, { product_tours: [] }],
  ['/api/web_experiments/?token=t', 200, { experiments: [] }],
  ['/api/early_access_features/?token=t', 200, { earlyAccessFeatures: [] }],
  ['/api/projects/@current/feature_flags/a%20flag/remote_config?token=t', 404, undefined],
  ['/api/projects/@current/feature_flags/flag/remote_config/', 404, undefined],
  ['/array/phc_"/config.js', 404, undefined],
  ['/test/black_hole', 404, undefined],
  ['/nothing', 404, undefined],
]
test.each(PLAIN)('%s: %d', async (path, status, body) => {
  const response = await get(path)
  expect(response.status).toBe(status)
  const answer = await response.json()
  if (body) expect(answer).toEqual(body)
  else expect(answer).toMatchObject({ type: 'invalid_request', code: 'HR_CAPTURE_NOT_FOUND' })
})

test('the root says what this is', async () => {
  const response = await get('/')
  expect(response.status).toBe(200)
  expect(await response.text()).toBe('capture')
})

test('nothing of all this was stored', async () => {
  expect(await capture.stored()).toEqual([])
  expect(capture.fatal).toEqual([])
})
