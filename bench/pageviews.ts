/**
 * Rows of `events` that compress as real ones do: `$pageview`s with the properties that a browser SDK sends (about
 * 1.2 kB), of visitors who come in sessions of a few pages, with ids as random as they are in life. In: a number.
 * Out: the same rows for the same numbers, in order of time.
 */
import type { EventRow } from '../src/event/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'

const START_MS = Date.UTC(2026, 10, 1)
const LOG_ID = '01890000-0000-7000-8000-000000000001'
const PAGES_PER_SESSION = 6
const SESSIONS_PER_VISITOR = 4
const MS_BETWEEN_EVENTS = 3
/** Sessions that go on at the same time. */
const SESSIONS_AT_ONCE = 400

const BROWSERS = [
  [
    'Chrome',
    142,
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  ],
  [
    'Chrome',
    141,
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36',
  ],
  [
    'Safari',
    26.1,
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15',
  ],
  [
    'Mobile Safari',
    26.1,
    'Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1',
  ],
  ['Firefox', 145, 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'],
] as const
const SYSTEMS = ['Windows', 'Mac OS X', 'Mac OS X', 'iOS', 'Linux'] as const
const SIZES = [
  [1920, 1080],
  [1512, 982],
  [2560, 1440],
  [393, 852],
  [1440, 900],
] as const
const LANGUAGES = ['en-US', 'en-GB', 'de-DE', 'fr-FR', 'pt-BR', 'ja-JP'] as const
const ZONES = [
  'America/New_York',
  'Europe/London',
  'Europe/Berlin',
  'Europe/Paris',
  'America/Sao_Paulo',
  'Asia/Tokyo',
] as const
const REFERRERS = ['$direct', 'www.google.com', 'news.ycombinator.com', 'www.bing.com', 'github.com'] as const
const SECTIONS = ['products', 'docs', 'blog', 'pricing', 'account', 'search'] as const

/** A number from 0 to 2^32 - 1 that looks random and is the same for the same arguments. */
function noise(a: number, b: number): number {
  let x = Math.imul(a ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(b + 1, 0xc2b2_ae35)
  x = Math.imul(x ^ (x >>> 15), 0x2c1b_3c6d)
  x = Math.imul(x ^ (x >>> 12), 0x297a_2d39)
  return (x ^ (x >>> 15)) >>> 0
}

/** A version 7 UUID of that time with random bits. */
function uuidAt(ms: number, a: number, b: number): string {
  const time = ms.toString(16).padStart(12, '0')
  const hex = (k: number) =>
    noise(a, b + k)
      .toString(16)
      .padStart(8, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(1).slice(1, 4)}-a${hex(2).slice(1, 4)}-${hex(3)}${hex(4).slice(0, 4)}`
}

/** The `n`th page view. Plain page views only, unless `names` gives other events to mix in. */
export function pageview(n: number): EventRow {
  // Sessions run side by side: the events of one lie SESSIONS_AT_ONCE apart.
  const block = Math.floor(n / (SESSIONS_AT_ONCE * PAGES_PER_SESSION))
  const session = block * SESSIONS_AT_ONCE + (n % SESSIONS_AT_ONCE)
  const visitor = Math.floor(
    noise(session, 1) % Math.max(1, (block + 1) * (SESSIONS_AT_ONCE / SESSIONS_PER_VISITOR)),
  )
  const device = noise(visitor, 2) % BROWSERS.length
  const place = noise(visitor, 3) % LANGUAGES.length
  const [browser, browserVersion, agent] = BROWSERS[device]!
  const [width, height] = SIZES[device]!
  const ms = START_MS + n * MS_BETWEEN_EVENTS + (noise(n, 4) % 3)
  const sessionMs = START_MS + block * SESSIONS_AT_ONCE * PAGES_PER_SESSION * MS_BETWEEN_EVENTS
  const distinctId = uuidAt(START_MS - (noise(visitor, 5) % 1e9), visitor, 100)
  const page = noise(n, 6) % 2000
  const path = `/${SECTIONS[page % SECTIONS.length]}/${page}`
  const referrer = REFERRERS[noise(session, 7) % REFERRERS.length]!
  const referrerUrl = referrer === '$direct' ? referrer : `https://${referrer}/`
  const properties = {
    $os: SYSTEMS[device],
    $browser: browser,
    $device_type: width < 500 ? 'Mobile' : 'Desktop',
    $timezone: ZONES[place],
    $timezone_offset: [300, 0, -60, -60, 180, -540][place],
    $current_url: `https://shop.example.com${path}${page % 4 === 0 ? '?utm_source=mail&utm_campaign=autumn' : ''}`,
    $host: 'shop.example.com',
    $pathname: path,
    $raw_user_agent: agent,
    $browser_version: browserVersion,
    $browser_language: LANGUAGES[place],
    $browser_language_prefix: LANGUAGES[place]!.slice(0, 2),
    $screen_height: height,
    $screen_width: width,
    $viewport_height: height - 120 - (noise(visitor, 8) % 60),
    $viewport_width: width - (noise(visitor, 9) % 20),
    $lib: 'web',
    $lib_version: '1.449.2',
    $insert_id: noise(n, 10).toString(36).padStart(7, '0') + noise(n, 11).toString(36).padStart(7, '0'),
    $time: ms / 1000,
    distinct_id: distinctId,
    $device_id: distinctId,
    $initial_person_info: { r: referrerUrl, u: 'https://shop.example.com/' },
    $referrer: referrerUrl,
    $referring_domain: referrer,
    token: 'phc_exampleexampleexampleexampleexample',
    $session_id: uuidAt(sessionMs + (noise(session, 12) % 7200), session, 200),
    $window_id: uuidAt(sessionMs + (noise(session, 13) % 7200), session, 300),
    $pageview_id: uuidAt(ms, n, 400),
    title: `${SECTIONS[page % SECTIONS.length]} ${page} | Example Shop`,
    ...(page % 4 === 0 ? { utm_source: 'mail', utm_campaign: 'autumn' } : {}),
    $is_identified: visitor % 3 === 0,
    $process_person_profile: true,
    ...(visitor % 5 === 0 ? { $group_0: `company-${noise(visitor, 14) % 300}` } : {}),
  }
  return plainEventRow({
    uuid: uuidAt(ms, n, 500),
    properties: JSON.stringify(properties),
    timestamp: ms,
    distinct_id: distinctId,
    created_at: ms + 40 + (noise(n, 15) % 300),
    person_id: uuidAt(0, visitor, 600),
    person_created_at: START_MS - (noise(visitor, 5) % 1e9),
    person_properties: JSON.stringify({
      $creator_event_uuid: uuidAt(START_MS, visitor, 700),
      $initial_referrer: referrerUrl,
      $os: SYSTEMS[device],
      $browser: browser,
      ...(visitor % 3 === 0
        ? { email: `someone-${visitor}@example.com`, plan: visitor % 9 === 0 ? 'pro' : 'free' }
        : {}),
    }),
    group0_properties: visitor % 5 === 0 ? `{"name":"Company ${noise(visitor, 14) % 300}","seats":12}` : '',
    group0_created_at: visitor % 5 === 0 ? START_MS - 1e8 : 0,
    _log_id: LOG_ID,
    _partition: visitor % 8,
    _offset: Math.floor(n / 8),
  })
}
