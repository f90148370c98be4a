/** The bodies that the benchmark of capture sends: page views of 1.2 kB, as posthog-js sends them. */
import { gzipSync } from 'node:zlib'
import { uuidV7 } from '../../src/event/index.ts'

export const BATCH_EVENTS = 50
export const TOKEN = 'phc_bench'

/** A page view as posthog-js sends it: about 1.2 kB. */
function pageView(n: number): Record<string, unknown> {
  return {
    uuid: uuidV7(Date.now()),
    event: '$pageview',
    properties: {
      token: TOKEN,
      distinct_id: `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`,
      $os: 'Mac OS X',
      $os_version: '10.15.7',
      $browser: 'Chrome',
      $browser_version: 142,
      $device_type: 'Desktop',
      $timezone: 'Europe/Berlin',
      $current_url: `https://shop.example/products/${n}?ref=newsletter&utm_source=mail`,
      $host: 'shop.example',
      $pathname: `/products/${n}`,
      $raw_user_agent:
        'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36',
      $screen_height: 1117,
      $screen_width: 1728,
      $viewport_height: 904,
      $viewport_width: 1728,
      $lib: 'web',
      $lib_version: '1.449.2',
      $insert_id: `k3x9q2v7m1${n}`,
      $time: 1795314780.123,
      $device_id: `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`,
      $session_id: '0193a7c4-6000-7000-8000-000000000001',
      $window_id: '0193a7c4-6000-7000-8000-000000000002',
      $pageview_id: '0193a7c4-6000-7000-8000-000000000003',
      $referrer: 'https://mail.example/inbox',
      $referring_domain: 'mail.example',
      $session_entry_url: 'https://shop.example/',
      $is_identified: false,
      $process_person_profile: true,
      title: 'Product page of the shop',
    },
    timestamp: new Date().toISOString(),
  }
}

export function batchBody(): Buffer {
  const from = Math.floor(Math.random() * 1e9)
  const batch = Array.from({ length: BATCH_EVENTS }, (_, n) => pageView(from + n))
  return Buffer.from(JSON.stringify({ api_key: TOKEN, batch, sent_at: new Date().toISOString() }))
}

function singleBody(): Buffer {
  const batch = [pageView(Math.floor(Math.random() * 1e9))]
  return Buffer.from(JSON.stringify({ api_key: TOKEN, batch, sent_at: new Date().toISOString() }))
}

export const BODIES = {
  batch: { events: BATCH_EVENTS, make: batchBody },
  gzip: { events: BATCH_EVENTS, make: () => gzipSync(batchBody()) },
  single: { events: 1, make: singleBody },
} as const

export type BodyName = keyof typeof BODIES
export const BODY_NAMES = Object.keys(BODIES) as BodyName[]
