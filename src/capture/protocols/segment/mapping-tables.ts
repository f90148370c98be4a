/**
 * How Segment's names become ours: the tables that `map-message.ts` works by and that docs/guides/segment.md shows
 * (a test compares the two).
 */

export const CALL_TYPES = ['track', 'identify', 'page', 'screen', 'group', 'alias'] as const
export type CallType = (typeof CALL_TYPES)[number]

/** What each call becomes: its event, and where its own members go; a name in `<…>` is a value of the message. */
export const CALLS: Record<
  CallType,
  { event: string; members: readonly (readonly [from: string, to: string])[] }
> = {
  track: { event: '<event>', members: [] },
  identify: {
    event: '$identify',
    members: [
      ['anonymousId', '$anon_distinct_id'],
      ['traits', '$set'],
    ],
  },
  page: {
    event: '$pageview',
    members: [
      ['name', 'name'],
      ['category', 'category'],
      ['properties.url', '$current_url'],
      ['properties.path', '$pathname'],
      ['properties.referrer', '$referrer'],
    ],
  },
  screen: {
    event: '$screen',
    members: [
      ['name', '$screen_name'],
      ['category', 'category'],
    ],
  },
  group: {
    event: '$groupidentify',
    members: [
      ['groupId', '$group_key'],
      ['traits', '$group_set'],
    ],
  },
  alias: { event: '$create_alias', members: [['previousId', 'alias']] },
}

/** An identify without a userId says something of a visitor and joins nobody. */
export const ANONYMOUS_IDENTIFY_EVENT = '$set'

/** The type of groups whose messages do not say another one. */
export const DEFAULT_GROUP_TYPE = 'group'

/** Members of any message, whatever the call. */
export const MESSAGE_MEMBERS = [
  ['messageId', '$message_id'],
  ['anonymousId', '$anonymous_id'],
  ['context.traits', '$set'],
  ['context.groupId', '$groups'],
  ['context.groupType', '$groups'],
] as const

/** Members of `context` that have a property of ours; all others stay under their own name in `$context`. */
export const CONTEXT_PROPERTIES = [
  ['app.build', '$app_build'],
  ['app.name', '$app_name'],
  ['app.namespace', '$app_namespace'],
  ['app.version', '$app_version'],
  ['browser.name', '$browser'],
  ['browser.version', '$browser_version'],
  ['campaign.content', 'utm_content'],
  ['campaign.medium', 'utm_medium'],
  ['campaign.name', 'utm_campaign'],
  ['campaign.source', 'utm_source'],
  ['campaign.term', 'utm_term'],
  ['device.id', '$device_id'],
  ['device.manufacturer', '$device_manufacturer'],
  ['device.model', '$device_model'],
  ['device.name', '$device_name'],
  ['device.type', '$device_type'],
  ['ip', '$ip'],
  ['library.name', '$lib'],
  ['library.version', '$lib_version'],
  ['locale', '$locale'],
  ['network.bluetooth', '$network_bluetooth'],
  ['network.carrier', '$network_carrier'],
  ['network.cellular', '$network_cellular'],
  ['network.wifi', '$network_wifi'],
  ['os.name', '$os'],
  ['os.version', '$os_version'],
  ['page.initial_referrer', '$initial_referrer'],
  ['page.initial_referring_domain', '$initial_referring_domain'],
  ['page.path', '$pathname'],
  ['page.referrer', '$referrer'],
  ['page.referring_domain', '$referring_domain'],
  ['page.search', 'search'],
  ['page.title', 'title'],
  ['page.url', '$current_url'],
  ['screen.height', '$screen_height'],
  ['screen.innerHeight', '$viewport_height'],
  ['screen.innerWidth', '$viewport_width'],
  ['screen.width', '$screen_width'],
  ['timezone', '$timezone'],
  ['userAgent', '$raw_user_agent'],
] as const

/** Not kept: the key is in the header, the others say how the SDK sent, and differ between two sends of one message. */
export const DROPPED_MEMBERS = ['writeKey', 'sentAt', '_metadata'] as const

/**
 * Libraries that run on servers: the address of their requests is that of the server, so it must not say where the
 * user is. Messages with `channel: "server"` and those with a `context.ip` need no list.
 */
export const SERVER_LIBRARIES: ReadonlySet<string> = new Set([
  '@segment/analytics-node',
  'analytics-node',
  'analytics-python',
  'segment-analytics-python',
  'analytics-ruby',
  'analytics-go',
  'analytics-java',
  'analytics-php',
  'analytics-rust',
  'Analytics.NET',
  'Analytics-CSharp',
  'rudder-sdk-node',
  'rudder-analytics-python',
  'rudder-sdk-ruby',
  'rudder-sdk-go',
  'rudder-sdk-java',
  'rudder-sdk-php',
])
