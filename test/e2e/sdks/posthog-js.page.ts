/// <reference lib="dom" />
/**
 * Runs in a real browser: sends events with the published posthog-js, as a page would. The page's query gives host,
 * token, number of events and the number of the user; when all is sent, `window.sent` is true.
 */
import posthog from 'posthog-js'

declare global {
  var sent: boolean | undefined
}

const query = new URLSearchParams(location.search)
const user = query.get('user')!
posthog.init(query.get('token')!, {
  api_host: query.get('host')!,
  persistence: 'memory',
  autocapture: false,
  disable_session_recording: true,
  person_profiles: 'always',
  // Chromium in tests says that it is a robot; a robot's events are not sent.
  opt_out_useragent_filter: true,
  // By default a page may send 10 events per second; here it is the pipeline that is tested.
  rate_limiting: { events_per_second: 1_000, events_burst_limit: 10_000 },
  loaded: (client) => {
    client.capture('browser before identify')
    client.identify(`browser-user-${user}`, { plan: 'pro', index: Number(user) })
    client.group('company', `company-${Number(user) % 5}`, { size: Number(user) % 5 })
    for (let index = 0; index < Number(query.get('events')); index++) {
      client.capture('browser event', { index, sent_ms: Date.now() })
    }
    globalThis.sent = true
  },
})
