/// <reference lib="dom" />
/**
 * Runs in a real browser: sends events with the published posthog-js, as a page would. The page's query gives host,
 * token, number of events, name and number of the user, and whether bodies are compressed; every event that the SDK
 * takes is noted in the local storage, which outlives the page. When all is captured, `window.captured` is true.
 */
import posthog from 'posthog-js'

declare global {
  var captured: boolean | undefined
}

const query = new URLSearchParams(location.search)
const user = Number(query.get('user'))
const name = query.get('name')!
posthog.init(query.get('token')!, {
  api_host: query.get('host')!,
  autocapture: false,
  disable_session_recording: true,
  disable_compression: query.get('compression') === 'none',
  person_profiles: 'always',
  // Chromium in tests says that it is a robot; a robot's events are not sent.
  opt_out_useragent_filter: true,
  // By default a page may send 10 events per second; here it is the pipeline that is tested.
  rate_limiting: { events_per_second: 1_000, events_burst_limit: 10_000 },
  // Between these the SDK holds what it took; by the longer one all that can wait is sent when the page is left.
  request_queue_config: { flush_interval_ms: query.get('transport') === 'leave' ? 5_000 : 250 },
  before_send: (event) => {
    if (event) localStorage.setItem(event.uuid, event.event)
    return event
  },
  loaded: (client) => {
    client.capture(`${name} before identify`)
    client.identify(`${name}-user-${user}`, { plan: 'pro', index: user })
    client.group('company', `company-${user % 5}`, { size: user % 5 })
    for (let index = 0; index < Number(query.get('events')); index++) {
      client.capture(`${name} event`, { index, sent_ms: Date.now() })
    }
    if (client.getFeatureFlag('no-such-flag')) throw new Error('a flag that nobody made has a value')
    globalThis.captured = true
  },
})
