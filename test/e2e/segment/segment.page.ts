/// <reference lib="dom" />
/**
 * Runs in a real browser: sends events with the published @segment/analytics-next, as a page would. All that it knows of
 * the server is `cdnURL`. The page's query gives host, write key, name, number of events, number of the user and `batching`
 * or `standard`; when the SDK has taken all, `taken` is true. `leave` leaves the page with one event that is not sent yet.
 */
import { AnalyticsBrowser } from '@segment/analytics-next'

declare global {
  var taken: boolean | undefined
  var failures: string[]
  var leave: () => Promise<void>
}

const query = new URLSearchParams(location.search)
const [host, writeKey, name] = [query.get('host')!, query.get('key')!, query.get('name')!]
const user = Number(query.get('user'))
globalThis.failures = []

const analytics = AnalyticsBrowser.load(
  { writeKey, cdnURL: host },
  query.get('delivery') === 'batching'
    ? {
        integrations: {
          'Segment.io': { deliveryStrategy: { strategy: 'batching', config: { size: 10, timeout: 500 } } },
        },
      }
    : {},
)
analytics.on('error', (error: unknown) => globalThis.failures.push(JSON.stringify(error)))

const groupId = `company-${user % 5}`
await analytics.page('Shop', 'Home')
await analytics.track(`${name} before identify`)
await analytics.identify(`${name}-user-${user}`, { plan: 'pro', index: user })
await analytics.group(groupId, { size: user % 5 })
const tracks: Promise<unknown>[] = []
for (let index = 0; index < Number(query.get('events')); index++) {
  tracks.push(analytics.track(`${name} event`, { index, sent_ms: Date.now() }, { groupId }))
}
await Promise.all(tracks)
globalThis.leave = async () => {
  await analytics.track(`${name} on leave`)
  location.href = '/left'
}
globalThis.taken = true
