/** The rules of the steps, by table. `N§24 n` is the row of the ingestion spec's list of cases. */
import { describe, expect, test } from 'bun:test'
import type { IngestionOptions } from '../../catalog/index.ts'
import type { RawHeader } from '../../event/index.ts'
import type { JsonObject } from '../identity/types.ts'
import { identityRequest } from './identity-request.ts'
import { EVENT_STEPS, STEPS } from './index.ts'
import { NOW_MS, throughStepsAlone, typesOf } from './steps.fixture.ts'

type Header = Partial<RawHeader>
const draftOf = (value: unknown, header: Header = {}, options: IngestionOptions = {}) =>
  throughStepsAlone(value, header, options).draft!
const stored = (properties: JsonObject, header: Header = {}, options: IngestionOptions = {}) =>
  draftOf({ properties }, header, options).properties
const ask = (properties: JsonObject, header: Header = {}, options: IngestionOptions = {}) =>
  identityRequest(draftOf({ properties }, header, options))

test('the steps run in the order of the list', () => {
  const order = Object.keys(STEPS)
  const places = EVENT_STEPS.map(([name]) => order.indexOf(name))
  expect(places).toEqual([...places].sort((a, b) => a - b))
  expect(order.indexOf('dedup')).toBeLessThan(places[0]!)
  expect(order.indexOf('normalise')).toBeGreaterThan(places.at(-1)!)
})

describe('parse', () => {
  test('NUL and half characters become U+FFFD; whole ones and escaped backslashes stay', () => {
    const text =
      '{"properties":{"a":"x\\u0000","b":"\\ud800","c":"\\udc00y","\\ud83d":1,"d":"\\ud83d\\ude00","e":"\\\\u0000"}}'
    expect(draftOf(text).properties).toEqual({
      a: 'x\ufffd',
      b: '\ufffd',
      c: '\ufffdy',
      '\ufffd': 1,
      d: '😀',
      e: '\\u0000',
    })
  })

  test.each([
    [498, undefined],
    [499, 'unreadable_event'],
    [400_000, 'unreadable_event'],
  ])('%d levels below properties', (levels, reason) => {
    // The event and its properties are two levels themselves.
    const slot = throughStepsAlone(`{"properties":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`)
    expect(slot.decision && 'reason' in slot.decision ? slot.decision.reason : undefined).toBe(
      reason as undefined,
    )
  })
})

describe('validate', () => {
  const DAY_S = 86_400
  const rows: [rule: string, header: Header, options: IngestionOptions, reason: string | undefined][] = [
    ['no limit keeps the oldest', { timestampMs: 0 }, {}, undefined],
    ['just within', { timestampMs: NOW_MS - DAY_S * 1000 }, { dropEventsOlderThanSeconds: DAY_S }, undefined],
    [
      'just beyond',
      { timestampMs: NOW_MS - DAY_S * 1000 - 1 },
      { dropEventsOlderThanSeconds: DAY_S },
      'event_too_old',
    ],
    [
      'N§24 80, 82: a time that is missing or unreadable is now, and no age',
      { timestampMs: NOW_MS, timeRule: 'unreadable' },
      { dropEventsOlderThanSeconds: 1 },
      undefined,
    ],
    [
      'a time that no clock shows is no age (upstream drops it as of 1970)',
      { timestampMs: 0, timeRule: 'outOfRange' },
      { dropEventsOlderThanSeconds: 1 },
      undefined,
    ],
    ['nobody to whom it belongs', { distinctId: '' }, {}, 'illegal_distinct_id'],
  ]
  test.each(rows)('%s', (_, header, options, reason) => {
    const { decision } = throughStepsAlone({}, header, options)
    expect(decision as unknown).toEqual(reason ? { kind: 'drop', reason } : undefined)
  })

  test('a drop for its age is told', () => {
    const slot = throughStepsAlone({}, { timestampMs: NOW_MS - 90_000 }, { dropEventsOlderThanSeconds: 60 })
    expect(slot.warnings).toEqual([
      {
        type: 'event_dropped_too_old',
        details: {
          eventUuid: '018f4b2e-0000-7000-8000-000000000001',
          event: '$pageview',
          distinctId: 'd',
          ageSeconds: 90,
          ageSecondsMax: 60,
        },
      },
    ])
  })

  const ids: [sent: unknown, merge: unknown, warning: string[]][] = [
    ['a', 'a', []],
    [5, '5', []],
    // Upstream drops the event with what is no text; here it is stored, and joins nobody.
    [{ toString: null }, undefined, ['invalid_*']],
    [['a'], undefined, ['invalid_*']],
    // Two such numbers read the same: they would join two people.
    ['NUMBER', undefined, ['invalid_*']],
  ]
  for (const [event, property, kind, warning] of [
    ['$identify', '$anon_distinct_id', 'identify', 'invalid_anon_distinct_id'],
    ['$create_alias', 'alias', 'alias', 'invalid_alias'],
    ['$merge_dangerously', 'alias', 'dangerous', 'invalid_alias'],
  ] as const) {
    test.each(ids)(`${event} with %j`, (sent, otherId, warnings) => {
      const json = JSON.stringify({ properties: { [property]: sent } })
      const slot = throughStepsAlone(json.replace('"NUMBER"', '12345678901234567890'), { event })
      expect(slot.decision).toBeUndefined()
      const { merge } = identityRequest(slot.draft!).event
      expect(merge as unknown).toEqual(otherId === undefined ? undefined : { kind, otherId })
      expect(typesOf(slot)).toEqual(warnings.map(() => warning))
    })
  }

  const wrong: [body: JsonObject, warning: string, field: string][] = [
    [{ $set: 'x' }, 'invalid_person_properties', '$set'],
    [{ $set_once: [1] }, 'invalid_person_properties', '$set_once'],
    [{ $unset: 'k' }, 'invalid_person_properties', '$unset'],
    [{ properties: { $set: 5 } }, 'invalid_person_properties', 'properties.$set'],
    [{ properties: { $set_once: false } }, 'invalid_person_properties', 'properties.$set_once'],
    [{ properties: { $unset: 'k' } }, 'invalid_person_properties', 'properties.$unset'],
    [{ properties: { $groups: ['acme'] } }, 'invalid_groups', 'properties.$groups'],
    [{ properties: { $elements: '[]' } }, 'invalid_elements', 'properties.$elements'],
    [{ properties: { $elements_chain: {} } }, 'invalid_elements', 'properties.$elements_chain'],
  ]
  test.each(wrong)('%j is told, and counts as absent', (body, type, field) => {
    const slot = throughStepsAlone(body)
    expect(slot.warnings).toMatchObject([{ type, details: { field } }])
    const { set, setOnce, unset, elementsChain } = slot.draft!
    expect([set, setOnce, unset, elementsChain]).toEqual([undefined, undefined, undefined, ''])
  })

  test('null is absent and nothing to tell of', () => {
    const nulls = { $set: null, $set_once: null, $unset: null }
    const slot = throughStepsAlone({ ...nulls, properties: { ...nulls, $groups: null, $elements: null } })
    expect(slot.warnings).toEqual([])
  })
})

describe('person flag', () => {
  const IDENTIFY = { event: '$identify' }
  const rows: [rule: string, header: Header, options: IngestionOptions, result: string][] = [
    ['usual', IDENTIFY, {}, 'on, merges'],
    ['N§24 12: a policy turned it off', { ...IDENTIFY, personProcessing: 'forcedOff' }, {}, 'forcedOff'],
    ['N§24 13: the event says so itself', { ...IDENTIFY, personProcessing: 'off' }, {}, 'dropped'],
    [
      'the project opted out: not dropped, the client cannot know',
      IDENTIFY,
      { personProcessing: 'off' },
      'off',
    ],
    [
      'opted out, and the event contradicts itself',
      { ...IDENTIFY, personProcessing: 'off' },
      { personProcessing: 'off' },
      'dropped',
    ],
    [
      'opted out does not undo a policy',
      { ...IDENTIFY, personProcessing: 'forcedOff' },
      { personProcessing: 'off' },
      'forcedOff',
    ],
  ]
  test.each(rows)('%s', (_, header, options, result) => {
    const slot = throughStepsAlone(
      { $set: { a: 1 }, properties: { $anon_distinct_id: 'a' } },
      header,
      options,
    )
    if (result === 'dropped') {
      expect(slot.decision).toMatchObject({ reason: 'identify_without_person_processing' })
      expect(typesOf(slot)).toEqual(['invalid_event_when_process_person_profile_is_false'])
      return
    }
    const { event } = identityRequest(slot.draft!)
    expect(event.personProcessing + (event.merge ? ', merges' : '')).toBe(result)
    expect(event.set !== undefined).toBe(result === 'on, merges')
    expect(slot.draft!.properties.$process_person_profile).toBe(result === 'on, merges' ? undefined : false)
  })

  test('N§24 14: "false" is no flag', () => {
    const slot = throughStepsAlone({ $set: { a: 1 }, properties: { $process_person_profile: 'false' } })
    expect(typesOf(slot)).toEqual(['invalid_process_person_profile'])
    expect(slot.draft).toMatchObject({ personProcessing: 'on', set: { a: 1 } })
  })

  test.each(['on', 'off', 'forcedOff'] as const)('a group changes with person processing %s', (mode) => {
    const properties = { $group_type: 'org', $group_key: 'o1', $group_set: { a: 1 }, $set: { b: 1 } }
    const { event } = ask(properties, { event: '$groupidentify', personProcessing: mode })
    expect(event.groupIdentify).toEqual({ type: 'org', key: 'o1', set: { a: 1 } })
    expect(event.set).toBeUndefined()
  })
})

describe('normalise: properties of the person', () => {
  test('N§24 29: device and campaign go to the person, the first of them for ever', () => {
    const { set, setOnce, properties } = draftOf({
      $set: { plan: 'pro' },
      properties: { utm_source: 'x', $current_url: 'https://a', other: 1 },
    })
    const lifted = { utm_source: 'x', $current_url: 'https://a' }
    expect(set).toEqual({ plan: 'pro', ...lifted })
    expect(setOnce).toEqual({ $initial_utm_source: 'x', $initial_current_url: 'https://a' })
    // Upstream stores on the event what was lifted, too: twice the bytes of a page view.
    expect(properties).toEqual({ ...lifted, other: 1, $set: { plan: 'pro' } })
  })

  test('the event shows what the client set, and where both places say it the outer one', () => {
    const { properties } = draftOf({
      $set: { a: 1, $os_name: 'iOS' },
      properties: { $browser: 'B', $set: { a: 2, b: 2 }, $set_once: { c: 3 } },
    })
    expect(properties).toEqual({
      $browser: 'B',
      $set: { a: 1, b: 2, $os_name: 'iOS' },
      $set_once: { c: 3 },
    })
  })

  const rows: [rule: string, event: JsonObject, set: unknown, setOnce: unknown][] = [
    [
      'what the client set stays, also null',
      { properties: { $os: 'A', $browser: 'B', $set: { $os: 'mine', $browser: null } } },
      { $os: 'mine', $browser: null },
      { $initial_os: 'A', $initial_browser: 'B' },
    ],
    [
      'what the client set once stays',
      { properties: { $os: 'A', $set_once: { $initial_os: 'mine' } } },
      { $os: 'A' },
      { $initial_os: 'mine' },
    ],
    [
      'null, objects, lists and very long texts are not lifted',
      {
        properties: {
          utm_source: null,
          utm_medium: {},
          utm_term: [1],
          $current_url: 'x'.repeat(8193),
          gclid: 'x'.repeat(8192),
        },
      },
      { gclid: 'x'.repeat(8192) },
      { $initial_gclid: 'x'.repeat(8192) },
    ],
    [
      'numbers and booleans are',
      { properties: { $screen_width: 5, $browser: false } },
      { $screen_width: 5, $browser: false },
      { $initial_screen_width: 5, $initial_browser: false },
    ],
    [
      'a malformed $set counts as absent',
      { $set: [1], properties: { $os: 'A', $set: 'x' } },
      { $os: 'A' },
      { $initial_os: 'A' },
    ],
    [
      'N§24 30: the system of a server is nobody’s',
      {
        properties: {
          $is_server: true,
          $os: 'Linux',
          $os_version: '6',
          $os_name: 'Linux',
          $app_name: 'shop',
        },
      },
      { $app_name: 'shop' },
      { $initial_app_name: 'shop' },
    ],
    [
      'N§24 31: $os_name alone is $os',
      { properties: { $os_name: 'iOS' } },
      { $os: 'iOS' },
      { $initial_os: 'iOS' },
    ],
    [
      '$os wins over $os_name',
      { properties: { $os: 'iPadOS', $os_name: 'iOS' } },
      { $os: 'iPadOS' },
      { $initial_os: 'iPadOS' },
    ],
    [
      'also where the client set it',
      { $set: { $os_name: 'iOS' }, $set_once: { $initial_os_name: 'iOS' } },
      { $os: 'iOS' },
      { $initial_os: 'iOS' },
    ],
    [
      'hostile keys are keys',
      JSON.parse('{"$set":{"__proto__":1,"constructor":2,"toString":3}}'),
      JSON.parse('{"__proto__":1,"constructor":2,"toString":3}'),
      undefined,
    ],
  ]
  test.each(rows)('%s', (_, event, set, setOnce) => {
    const draft = draftOf(event)
    expect(draft.set as unknown).toEqual(set)
    expect(draft.setOnce as unknown).toEqual(setOnce)
  })

  test('N§24 31: the event has $os beside its $os_name; that of a server does not', () => {
    expect(stored({ $os_name: 'iOS' })).toMatchObject({ $os_name: 'iOS', $os: 'iOS' })
    expect(stored({ $os_name: 'Linux', $is_server: true })).not.toHaveProperty('$os')
  })

  test.each([
    ['a $snapshot', { event: '$snapshot' }],
    ['a $groupidentify', { event: '$groupidentify' }],
    ['an event without person processing', { personProcessing: 'off' }],
  ] as [string, Header][])('%s says nothing of a person', (_, header) => {
    const { set, setOnce } = draftOf({ properties: { $os: 'A' } }, header)
    expect([set, setOnce]).toEqual([undefined, undefined])
  })

  test('keys to unset of both places count', () => {
    const draft = draftOf({ $unset: { a: 1 }, properties: { $unset: ['b', 5, 'a'] } })
    expect(draft.unset).toEqual(['b', 'a'])
    expect(draft.properties.$unset).toEqual(['b', 'a'])
  })
})

describe('normalise: the rest', () => {
  test('$ip and $sent_at are filled in and never replaced', () => {
    const header = { ip: '203.0.113.7', sentAtMs: NOW_MS }
    expect(stored({}, header)).toEqual({ $ip: '203.0.113.7', $sent_at: '2026-11-22T12:00:00.000Z' })
    expect(stored({ $ip: null, $sent_at: 'x' }, header)).toEqual({ $ip: null, $sent_at: 'x' })
    expect(stored({}, { sentAtMs: Number.MAX_SAFE_INTEGER })).toEqual({})
  })

  test('N§24 91: no address is stored, not with the person either', () => {
    const properties = {
      $ip: '1.1.1.1',
      $set: { $ip: '1.1.1.1' },
      $set_once: { $initial_ip: '1.1.1.1', $ip: '1.1.1.1' },
    }
    const options = { anonymizeIps: true }
    expect(stored(properties, { ip: '203.0.113.7' }, options)).toEqual({})
    expect(stored({}, { ip: '203.0.113.7' }, options)).toEqual({})
  })

  test('what SDKs keep for themselves is left out', () => {
    expect(
      stored({
        ph_product_tours: [1],
        $product_tours_activated: 1,
        $override_feature_flag_payloads: {},
        a: 1,
      }),
    ).toEqual({ a: 1 })
  })

  test('N§24 99: a $feature_flag_called keeps everything, of either kind of response', () => {
    const junk = { $feature_flag: 'f', junk: 1 }
    for (const $feature_flag_response of [true, 'variant']) {
      const properties = { ...junk, $feature_flag_response }
      expect(stored(properties, { event: '$feature_flag_called' })).toEqual(properties)
    }
  })

  test('N§24 85: a name of 300 units is cut, and no character in half', () => {
    expect(draftOf({}, { event: 'x'.repeat(300) }).name).toBe('x'.repeat(200))
    expect(draftOf({}, { event: `${'x'.repeat(199)}😀` }).name).toBe('x'.repeat(199))
  })
})

describe('normalise: the clicked elements', () => {
  const chainOf = (properties: JsonObject) => draftOf({ properties }).elementsChain

  test('N§24 89: cut, sorted, quotes escaped, and no property any more', () => {
    const link = {
      tag_name: 'a',
      $el_text: 'x'.repeat(500),
      attr__href: 'y'.repeat(3000),
      attr__class: 'b  a"a',
      attr__id: 'i',
      'attr__data-x': 'say "hi"',
      nth_child: 2,
    }
    const draft = draftOf({ properties: { $elements: [link, { tag_name: 'body', nth_of_type: 1 }] } })
    expect(draft.elementsChain).toBe(
      [
        `a.aa.b:attr__class="b  a\\"a"attr__data-x="say \\"hi\\""attr__href="${'y'.repeat(3000)}"attr__id="i"attr_id="i"`,
        `href="${'y'.repeat(2048)}"nth-child="2"nth-of-type="0"text="${'x'.repeat(400)}"`,
        ';body:nth-child="0"nth-of-type="1"',
      ].join(''),
    )
    expect(draft.properties).toEqual({})
  })

  test.each([
    ['verbatim', { $elements_chain: 'a:x="1"', $elements: [{ tag_name: 'b' }] }, 'a:x="1"', []],
    ['an empty list', { $elements: [] }, '', []],
    ['N§24 90: a JSON text stays a property', { $elements: '[{}]' }, '', ['$elements']],
    ['nothing readable stays', { $elements: [1, null] }, '', ['$elements']],
    [
      'hostile members are left out',
      { $elements: [{ tag_name: { toString: null }, attr__x: {}, $el_text: [1], nth_child: {} }] },
      ':nth-child="0"nth-of-type="0"',
      [],
    ],
    ['a list of classes', { $elements: [{ tag_name: 'p', attr__class: ['z', 5, 'y'] }] }, undefined, []],
  ] as [string, JsonObject, string | undefined, string[]][])('%s', (_, properties, chain, left) => {
    const expected = chain ?? 'p.y.z:attr__class="y z"nth-child="0"nth-of-type="0"'
    expect(chainOf(properties)).toBe(expected)
    expect(Object.keys(stored(properties))).toEqual(left)
  })
})

describe('request: groups', () => {
  test('N§24 70: types and keys', () => {
    expect({ ...ask({ $groups: { company: 'c1', org: 5 } }).event.groups }).toEqual({
      company: 'c1',
      org: '5',
    })
  })

  const keys: [key: unknown, warning: string | undefined][] = [
    ['k'.repeat(400), undefined],
    // N§24 75: upstream drops the event; here only the group is left out.
    ['k'.repeat(401), 'group_key_too_long'],
    [{ toString: null }, 'invalid_groups'],
    [['k'], 'invalid_groups'],
    [1e20, 'invalid_groups'],
    [true, undefined],
  ]
  test.each(keys)('a key %j', (key, warning) => {
    const value = { properties: { $group_type: 't', $group_key: key, $groups: { t: key } } }
    const slot = throughStepsAlone(value, { event: '$groupidentify' })
    const { event, warnings } = identityRequest(slot.draft!)
    expect(slot.decision).toBeUndefined()
    expect(event.groupIdentify !== undefined).toBe(warning === undefined)
    expect(typesOf({ warnings })).toEqual(warning ? [warning, warning] : [])
  })

  test.each([
    [{ $group_key: 'k' }, 'invalid_groups'],
    [{ $group_type: 5, $group_key: 'k' }, 'invalid_groups'],
    // N§24 74
    [{ $group_type: 't', $group_key: 'k', $group_set: 'x' }, 'invalid_group_set'],
  ] as [JsonObject, string][])('%j changes no group', (properties, warning) => {
    const { event, warnings } = ask(properties, { event: '$groupidentify' })
    expect(event.groupIdentify).toBeUndefined()
    expect(typesOf({ warnings })).toEqual([warning])
  })
})
