/**
 * Keys that go last when the properties of a person have to be cut (ingestion spec §8.4): who the person is, where it
 * came from, and what segments are usually made of.
 */
const OF_THE_DEVICE = [
  '$app_build',
  '$app_name',
  '$app_namespace',
  '$app_version',
  '$browser',
  '$browser_version',
  '$current_url',
  '$device_type',
  '$os',
  '$os_name',
  '$os_version',
  '$pathname',
  '$raw_user_agent',
  '$referrer',
  '$referring_domain',
  '$screen_height',
  '$screen_width',
  '$viewport_height',
  '$viewport_width',
]
const OF_THE_CAMPAIGN = [
  '_kx',
  'dclid',
  'epik',
  'fbclid',
  'gad_source',
  'gbraid',
  'gclid',
  'gclsrc',
  'igshid',
  'irclid',
  'li_fat_id',
  'mc_cid',
  'msclkid',
  'qclid',
  'rdt_cid',
  'sccid',
  'ttclid',
  'twclid',
  'utm_campaign',
  'utm_content',
  'utm_medium',
  'utm_name',
  'utm_source',
  'utm_term',
  'wbraid',
]
const OF_THE_PERSON = [
  '$anon_distinct_id',
  '$creator_event_uuid',
  '$device_id',
  '$fbc',
  '$host',
  '$pageview_id',
  '$session_id',
  '$user_id',
  '$window_id',
  'email',
  'name',
]

const derived = [...OF_THE_DEVICE, ...OF_THE_CAMPAIGN]

export const PROTECTED_KEYS: ReadonlySet<string> = new Set([
  ...OF_THE_PERSON,
  ...derived,
  ...derived.map((key) => `$initial_${key.replace(/^\$/, '')}`),
])
