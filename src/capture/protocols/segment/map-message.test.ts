import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Json, JsonObject } from './json.ts'
import { isUnmappable, type MappedEvent, type MessageIds, mapMessage } from './map-message.ts'
import {
  CALL_TYPES,
  CALLS,
  type CallType,
  CONTEXT_PROPERTIES,
  DROPPED_MEMBERS,
  MESSAGE_MEMBERS,
  SERVER_LIBRARIES,
} from './mapping-tables.ts'

function text(value: Json | undefined): string {
  return typeof value === 'string' ? value : ''
}

function idsOf(message: JsonObject): MessageIds {
  const context = message.context as JsonObject | undefined
  return {
    userId: text(message.userId),
    anonymousId: text(message.anonymousId),
    previousId: text(message.previousId),
    groupId: text(message.groupId),
    contextGroupId: text(context?.groupId),
  }
}

/** The event of `message`, as it will be written. */
function mapped(type: CallType, message: JsonObject): MappedEvent {
  const copy = structuredClone(message)
  const event = mapMessage(type, copy, idsOf(copy))
  if (isUnmappable(event)) throw new Error(event.reason)
  return { ...event, properties: JSON.parse(JSON.stringify(event.properties)) }
}

type Row = [
  name: string,
  type: CallType,
  message: JsonObject,
  expected: { event: Json; distinctId?: string; properties: JsonObject; set?: JsonObject },
]

const ROWS: Row[] = [
  [
    'a track keeps its name and properties',
    'track',
    { type: 'track', event: 'Order Completed', userId: 'u', properties: { total: 5, nested: { a: [1] } } },
    { event: 'Order Completed', properties: { total: 5, nested: { a: [1] } } },
  ],
  [
    'without a userId the anonymousId is the distinct_id',
    'track',
    { event: 'e', anonymousId: 'a' },
    { event: 'e', distinctId: 'a', properties: {} },
  ],
  [
    'both ids on a track join nobody',
    'track',
    { event: 'e', userId: 'u', anonymousId: 'a' },
    { event: 'e', properties: { $anonymous_id: 'a' } },
  ],
  [
    'an identify with both ids joins them',
    'identify',
    { userId: 'u', anonymousId: 'a', traits: { plan: 'pro' } },
    { event: '$identify', properties: { $anon_distinct_id: 'a' }, set: { plan: 'pro' } },
  ],
  [
    'an identify with a userId only',
    'identify',
    { userId: 'u', traits: { plan: 'pro' } },
    { event: '$identify', properties: {}, set: { plan: 'pro' } },
  ],
  [
    'an identify with equal ids',
    'identify',
    { userId: 'u', anonymousId: 'u', traits: {} },
    { event: '$identify', properties: {}, set: {} },
  ],
  [
    'an identify with an anonymousId only sets',
    'identify',
    { anonymousId: 'a', traits: { plan: 'pro' } },
    { event: '$set', distinctId: 'a', properties: {}, set: { plan: 'pro' } },
  ],
  [
    'traits win over traits of the context',
    'identify',
    { userId: 'u', traits: { plan: 'pro' }, context: { traits: { plan: 'free', age: 3 } } },
    { event: '$identify', properties: {}, set: { plan: 'pro', age: 3 } },
  ],
  [
    'traits of the context set on any call about a person',
    'track',
    { event: 'e', userId: 'u', context: { traits: { plan: 'pro' } } },
    { event: 'e', properties: {}, set: { plan: 'pro' } },
  ],
  [
    'what a track sets by our name wins over traits of the context',
    'track',
    {
      event: 'e',
      userId: 'u',
      properties: { $set: { plan: 'own' } },
      context: { traits: { plan: 'old', age: 3 } },
    },
    { event: 'e', properties: { $set: { plan: 'own' } }, set: { plan: 'own', age: 3 } },
  ],
  [
    'a page',
    'page',
    {
      userId: 'u',
      name: 'Home',
      category: 'Docs',
      properties: {
        url: 'https://me@shop.example:8443/a?b#c',
        path: '/a',
        referrer: 'https://search.example/?q',
        title: 'T',
        search: '?b',
        name: 'Home',
      },
    },
    {
      event: '$pageview',
      properties: {
        $current_url: 'https://me@shop.example:8443/a?b#c',
        $pathname: '/a',
        $referrer: 'https://search.example/?q',
        title: 'T',
        search: '?b',
        name: 'Home',
        category: 'Docs',
        $host: 'shop.example:8443',
        $referring_domain: 'search.example',
      },
    },
  ],
  [
    'a page without a referrer was opened directly',
    'page',
    { userId: 'u', properties: { referrer: '' } },
    { event: '$pageview', properties: { $referrer: '$direct', $referring_domain: '$direct' } },
  ],
  [
    'a page whose properties and context agree says it once',
    'page',
    {
      userId: 'u',
      properties: { url: 'app:home', title: 'T', referrer: '' },
      context: { page: { url: 'app:home', title: 'T', referrer: '' } },
    },
    {
      event: '$pageview',
      properties: {
        $current_url: 'app:home',
        title: 'T',
        $referrer: '$direct',
        $referring_domain: '$direct',
      },
    },
  ],
  [
    'a page that has both names keeps both',
    'page',
    { userId: 'u', properties: { path: '/a', $pathname: '/b' } },
    { event: '$pageview', properties: { path: '/a', $pathname: '/b' } },
  ],
  [
    'a screen',
    'screen',
    { userId: 'u', name: 'Main', category: 'Home', properties: { a: 1 } },
    { event: '$screen', properties: { $screen_name: 'Main', category: 'Home', a: 1 } },
  ],
  [
    'a group',
    'group',
    { userId: 'u', groupId: 'acme', traits: { size: 3 } },
    {
      event: '$groupidentify',
      properties: { $group_type: 'group', $group_key: 'acme', $group_set: { size: 3 } },
    },
  ],
  [
    'a group that says its type in the context',
    'group',
    { userId: 'u', groupId: 'acme', traits: { groupType: 'team' }, context: { groupType: 'company' } },
    {
      event: '$groupidentify',
      properties: { $group_type: 'company', $group_key: 'acme', $group_set: { groupType: 'team' } },
    },
  ],
  [
    'a group that says its type in the traits',
    'group',
    { userId: 'u', groupId: 'acme', traits: { groupType: 'team' } },
    {
      event: '$groupidentify',
      properties: { $group_type: 'team', $group_key: 'acme', $group_set: { groupType: 'team' } },
    },
  ],
  [
    'a group of nobody',
    'group',
    { groupId: 'acme' },
    {
      event: '$groupidentify',
      distinctId: '$group_acme',
      properties: { $group_type: 'group', $group_key: 'acme', $group_set: {} },
    },
  ],
  [
    'traits of the context change nobody on a group call, and are kept',
    'group',
    { userId: 'u', groupId: 'acme', context: { traits: { plan: 'pro' } } },
    {
      event: '$groupidentify',
      properties: {
        $group_type: 'group',
        $group_key: 'acme',
        $group_set: {},
        $context: { traits: { plan: 'pro' } },
      },
    },
  ],
  [
    'the group of the context',
    'track',
    { event: 'e', userId: 'u', context: { groupId: 'acme', groupType: 'company' } },
    { event: 'e', properties: { $groups: { company: 'acme' } } },
  ],
  [
    'the group of the message itself',
    'track',
    { event: 'e', userId: 'u', groupId: 'acme' },
    { event: 'e', properties: { $groups: { group: 'acme' } } },
  ],
  [
    'groups that a track names by our name stay, one of the context is added',
    'track',
    { event: 'e', userId: 'u', properties: { $groups: { team: 't' } }, context: { groupId: 'acme' } },
    { event: 'e', properties: { $groups: { team: 't', group: 'acme' } } },
  ],
  [
    'two groups of one type: that of the properties counts, the other is kept',
    'track',
    { event: 'e', userId: 'u', properties: { $groups: { group: 'own' } }, context: { groupId: 'acme' } },
    { event: 'e', properties: { $groups: { group: 'own' }, $context: { groupId: 'acme' } } },
  ],
  [
    'a type without a group is kept',
    'track',
    { event: 'e', userId: 'u', context: { groupType: 'company' } },
    { event: 'e', properties: { $context: { groupType: 'company' } } },
  ],
  [
    'an alias',
    'alias',
    { userId: 'u', previousId: 'old' },
    { event: '$create_alias', properties: { alias: 'old' } },
  ],
  [
    'properties of an alias call do not say what it joins, and are kept',
    'alias',
    { userId: 'u', previousId: 'old', properties: { alias: 'other' } },
    { event: '$create_alias', properties: { alias: 'old', $segment: { alias: 'other' } } },
  ],
  [
    'what a message says itself is not overwritten by its context',
    'track',
    {
      event: 'e',
      userId: 'u',
      properties: { title: 'Mine', $os: 'X' },
      context: { os: { name: 'iOS' }, page: { title: 'T' } },
    },
    {
      event: 'e',
      properties: { title: 'Mine', $os: 'X', $context: { os: { name: 'iOS' }, page: { title: 'T' } } },
    },
  ],
  [
    'members of the context without a property of ours, and those of another form',
    'track',
    {
      event: 'e',
      userId: 'u',
      context: {
        os: 'iOS',
        device: { model: { a: 1 }, token: 't' },
        consent: { ads: false },
        ip: ['x'],
        none: null,
      },
    },
    {
      event: 'e',
      properties: {
        $context: { os: 'iOS', device: { model: { a: 1 }, token: 't' }, consent: { ads: false }, ip: ['x'] },
      },
    },
  ],
  [
    'members of the message that we have no use for',
    'track',
    {
      event: 'e',
      userId: 'u',
      integrations: { All: false },
      channel: 'web',
      name: 'n',
      context: 'none',
      empty: {},
      sentAt: 'x',
      writeKey: 'k',
      _metadata: { retryCount: 2 },
    },
    {
      event: 'e',
      properties: { $segment: { integrations: { All: false }, channel: 'web', name: 'n', context: 'none' } },
    },
  ],
  [
    'our own names for the rest, used by the message',
    'track',
    { event: 'e', userId: 'u', x: 1, properties: { $segment: 's', $context: 'c' }, context: { y: 2 } },
    { event: 'e', properties: { $segment: { x: 1, $segment: 's' }, $context: { y: 2, $context: 'c' } } },
  ],
  [
    'a messageId is kept',
    'track',
    { event: 'e', userId: 'u', messageId: 'm' },
    { event: 'e', properties: { $message_id: 'm' } },
  ],
  [
    'a server does not say where the user is',
    'track',
    { event: 'e', userId: 'u', context: { library: { name: '@segment/analytics-node' } } },
    { event: 'e', properties: { $lib: '@segment/analytics-node', $geoip_disable: true } },
  ],
  [
    'a server that knows the address of the user',
    'track',
    { event: 'e', userId: 'u', channel: 'server', context: { ip: '192.0.2.1' } },
    { event: 'e', properties: { $ip: '192.0.2.1', $segment: { channel: 'server' } } },
  ],
]

describe('mapMessage', () => {
  test.each(ROWS)('%s', (_name, type, message, expected) => {
    const { event, distinctId, properties, set } = mapped(type, message)
    expect({ event, distinctId, properties, set }).toEqual({
      distinctId: 'u',
      ...expected,
      event: expected.event,
      set: expected.set,
    })
  })

  test.each(CONTEXT_PROPERTIES.map(([from, to]) => [from, to] as const))('context.%s → %s', (from, to) => {
    const [group, member] = from.split('.') as [string, string | undefined]
    const context = member === undefined ? { [group]: 'v' } : { [group]: { [member]: 'v' } }
    expect(mapped('track', { event: 'e', userId: 'u', context }).properties).toMatchObject({ [to]: 'v' })
    expect(mapped('track', { event: 'e', userId: 'u', context }).properties).not.toHaveProperty('$context')
  })

  const MEMBERS = CALL_TYPES.flatMap((type) => [
    ...CALLS[type].members.map(([from, to]) => [type, from, to] as const),
    ...(type === 'track' ? MESSAGE_MEMBERS.map(([from, to]) => [type, from, to] as const) : []),
  ])
  test.each(MEMBERS)('%s: %s → %s', (type, from, to) => {
    const [group, member] = from.split('.') as [string, string | undefined]
    const value: Json = from.endsWith('traits') ? { marked: 'v' } : 'v'
    const context: JsonObject = { groupId: 'g' }
    const message: JsonObject = { event: 'e', userId: 'u', groupId: 'g', previousId: 'p', context }
    if (member === undefined) message[group] = value
    else message[group] = { ...(message[group] as JsonObject | undefined), [member]: value }
    const { event, set, properties } = mapped(type, message)
    expect(event).toBe(type === 'track' ? 'e' : CALLS[type].event)
    expect(JSON.stringify(to === '$set' ? set : properties[to])).toContain('"v"')
  })

  test('no property of ours has two sources that would fight', () => {
    const names = CONTEXT_PROPERTIES.map(([, to]) => to)
    expect(new Set(names).size).toBe(names.length)
  })

  test.each([...SERVER_LIBRARIES])('%s is a library of servers', (name) => {
    const context = { library: { name } }
    expect(mapped('track', { event: 'e', userId: 'u', context }).properties.$geoip_disable).toBe(true)
  })

  const UNMAPPABLE: [string, CallType, JsonObject, string][] = [
    ['properties are a list', 'track', { event: 'e', properties: [] }, 'invalid_properties'],
    ['properties are text', 'page', { properties: 'x' }, 'invalid_properties'],
    ['traits are text', 'identify', { userId: 'u', traits: 'x' }, 'invalid_traits'],
    ['traits of a group are a list', 'group', { groupId: 'g', traits: [1] }, 'invalid_traits'],
    ['a group without an id', 'group', { userId: 'u' }, 'missing_group_id'],
    ['an alias of nobody', 'alias', { userId: 'u' }, 'missing_previous_id'],
  ]
  test.each(UNMAPPABLE)('%s', (_name, type, message, reason) => {
    expect(mapMessage(type, message, idsOf(message))).toMatchObject({ reason })
  })

  test.each<[string, JsonObject, Json | undefined, boolean]>([
    ['the time of the SDK', { timestamp: 't' }, 't', false],
    ['the time of RudderStack', { originalTimestamp: 'o' }, 'o', false],
    ['a time that was corrected already', { timestamp: 't', originalTimestamp: 'o' }, 't', true],
    ['null is no time', { timestamp: null, originalTimestamp: 'o' }, 'o', false],
    ['no time', {}, undefined, false],
  ])('%s', (_name, message, timestamp, isTimeFinal) => {
    expect(mapped('track', { event: 'e', userId: 'u', ...message })).toMatchObject({ timestamp, isTimeFinal })
  })

  test('__proto__ is a key like any other', () => {
    const message = JSON.parse(
      '{"event":"e","userId":"u","properties":{"__proto__":{"a":1}},"context":{"__proto__":{"b":1},"os":{"__proto__":2},"groupId":"g","groupType":"__proto__"},"__proto__":{"c":1}}',
    ) as JsonObject
    for (const type of ['track', 'page'] as const) {
      const copy = JSON.parse(JSON.stringify(message)) as JsonObject
      const event = mapMessage(type, copy, { ...idsOf(copy), contextGroupId: 'g' }) as MappedEvent
      const written = JSON.stringify(event.properties)
      for (const part of [
        '"__proto__":{"a":1}',
        '"__proto__":{"b":1}',
        '"os":{"__proto__":2}',
        '"__proto__":{"c":1}',
      ])
        expect(written).toContain(part)
      expect(written).toContain('"$groups":{"__proto__":"g"}')
    }
    expect(({} as Record<string, unknown>).a).toBeUndefined()
  })
})

/** All scalars of a tree but null, as text, without what the mapping drops by its contract. */
function scalars(value: Json | undefined, into: string[] = []): string[] {
  if (value === null || value === undefined) return into
  if (typeof value !== 'object') into.push(JSON.stringify(value))
  else for (const one of Array.isArray(value) ? value : Object.values(value)) scalars(one, into)
  return into
}

test('nothing that a message says is lost, for any message', () => {
  const leaf = fc.oneof(fc.stringMatching(/^v[a-z0-9]{1,6}$/), fc.integer({ min: 2 }), fc.constant(null))
  const name = (from: readonly string[]) =>
    fc.oneof(fc.constantFrom(...from), fc.stringMatching(/^[a-z]{1,3}$/))
  const tree = (names: readonly string[], value: fc.Arbitrary<unknown>) =>
    fc.dictionary(name([...names, '__proto__']), value, { maxKeys: 5 })
  const ours = [
    '$os',
    '$groups',
    '$set',
    '$segment',
    '$context',
    '$ip',
    'url',
    'referrer',
    'title',
    'alias',
    'name',
  ]
  const groups = CONTEXT_PROPERTIES.map(([from]) => from.split('.')[0]!)
  const members = CONTEXT_PROPERTIES.map(([from]) => from.split('.')[1] ?? 'x')
  const properties = tree(ours, fc.oneof(leaf, tree(['group', 'a'], leaf)))
  const message = fc.record(
    {
      event: leaf,
      userId: fc.constantFrom('vu', 'va'),
      anonymousId: fc.constantFrom('vu', 'va'),
      previousId: fc.constant('vp'),
      groupId: fc.constant('vg'),
      messageId: leaf,
      name: leaf,
      category: leaf,
      channel: leaf,
      timestamp: leaf,
      originalTimestamp: leaf,
      properties,
      traits: tree(['groupType'], leaf),
      integrations: tree(['All'], leaf),
      context: fc.oneof(
        leaf,
        tree([...groups, 'traits', 'groupId', 'groupType'], fc.oneof(leaf, tree(members, leaf))),
      ),
    },
    { requiredKeys: ['userId'] },
  )
  fc.assert(
    fc.property(fc.constantFrom(...CALL_TYPES), message, (type, generated) => {
      const sent = JSON.parse(JSON.stringify(generated)) as JsonObject
      const said = new Set(scalars(sent))
      const event = mapMessage(type, sent, idsOf(sent))
      if (isUnmappable(event)) return
      const { set, properties, distinctId, timestamp } = event
      const written = JSON.parse(
        JSON.stringify({ event: event.event, distinctId, timestamp, set, properties }),
      ) as JsonObject
      // The type of a group is a key.
      const groupTypes = Object.keys(
        ((written.properties as JsonObject).$groups as JsonObject | undefined) ?? {},
      )
      const kept = new Set([...scalars(written), ...scalars(groupTypes)])
      // A trait gives way to a nearer one of the same name: of the context, then of the call, then in `$set` itself.
      const {
        context,
        traits,
        properties: own,
      } = generated as unknown as Record<string, JsonObject | null | undefined>
      const nearest = (own?.$set ?? {}) as JsonObject
      const overridden = new Set<string>()
      for (const [far, near] of [
        [context?.traits, traits],
        [context?.traits, nearest],
        [traits, nearest],
      ] as [JsonObject | undefined, JsonObject | undefined][]) {
        for (const key of Object.keys(near ?? {})) {
          if (far && Object.hasOwn(far, key)) for (const value of scalars(far[key])) overridden.add(value)
        }
      }
      expect([...said].filter((value) => !kept.has(value) && !overridden.has(value))).toEqual([])
    }),
    { numRuns: 2000 },
  )
})

test('every call has a row of its own and a dropped member is none that a call reads', () => {
  expect(Object.keys(CALLS)).toEqual([...CALL_TYPES])
  const read = CALL_TYPES.flatMap((type) => CALLS[type].members.map(([from]) => from))
  for (const dropped of DROPPED_MEMBERS) expect(read).not.toContain(dropped)
})
