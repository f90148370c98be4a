/**
 * Events that are made to hurt ingest, as they may stand in the raw log, each with the place where it ends. Most would
 * never pass the door of capture: the log also holds what older versions and other writers put there.
 */
import type { RawHeader } from '../../src/event/index.ts'

/** `stored`: it has a row · `drop reason` or `dead-letter reason`: it has none. */
export type Poison = {
  name: string
  /** The bytes of the event. */
  json: string
  header?: Partial<RawHeader>
  /** In place of a header. */
  headerBytes?: Uint8Array
  end: 'stored' | { drop: string } | { deadLetter: string }
  /** Of the steps, in order. */
  warnings?: string[]
}

const stored = 'stored' as const
const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`
const properties = (json: string) => `{"properties":${json}}`
const repeat = (count: number, member: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => member(i)).join()

/** JSON of every kind that is not what a field wants; `{"toString":null}` cannot even be made a text. */
const KINDS = {
  null: 'null',
  true: 'true',
  number: '7',
  'a number that is none': '1e999',
  text: '"x"',
  'an empty text': '""',
  list: '[1,{"a":[]}]',
  object: '{"a":1}',
  'an object without a text': '{"toString":null,"valueOf":null}',
  'an object of hostile keys': '{"__proto__":{"x":1},"constructor":{"prototype":{}},"toString":1}',
  NUL: '"\\u0000"',
  'half a character': '"\\ud800"',
}
type Kind = keyof typeof KINDS

const TEXTS: Kind[] = ['text', 'an empty text', 'NUL', 'half a character']
const OBJECTS: Kind[] = ['object', 'an object without a text', 'an object of hostile keys']

type Field = {
  event: string
  /** Where it stands; in `properties` unless `top`. */
  field: string
  top?: true
  /** Kinds that are told of nothing; null always is. */
  fits: Kind[]
  warning: string
}

const IDENTITY = ['$identify', '$create_alias', '$merge_dangerously']
const FIELDS: Field[] = [
  ...(['$set', '$set_once'] as const).flatMap((field): Field[] => [
    { event: 'e', field, fits: OBJECTS, warning: 'invalid_person_properties' },
    { event: 'e', field, top: true, fits: OBJECTS, warning: 'invalid_person_properties' },
  ]),
  { event: 'e', field: '$unset', fits: [...OBJECTS, 'list'], warning: 'invalid_person_properties' },
  {
    event: 'e',
    field: '$unset',
    top: true,
    fits: [...OBJECTS, 'list'],
    warning: 'invalid_person_properties',
  },
  { event: 'e', field: '$process_person_profile', fits: ['true'], warning: 'invalid_process_person_profile' },
  { event: '$autocapture', field: '$elements', fits: ['list'], warning: 'invalid_elements' },
  { event: '$autocapture', field: '$elements_chain', fits: TEXTS, warning: 'invalid_elements' },
  ...IDENTITY.map((event): Field => {
    const [field, warning] =
      event === '$identify' ? ['$anon_distinct_id', 'invalid_anon_distinct_id'] : ['alias', 'invalid_alias']
    return { event, field, fits: [...TEXTS, 'number', 'true'], warning }
  }),
  // Any JSON is a property like any other.
  ...[
    '$ip',
    '$os',
    '$os_name',
    '$is_server',
    '$current_url',
    'utm_source',
    '$sent_at',
    'ph_product_tours',
  ].map((field): Field => ({ event: '$pageview', field, fits: Object.keys(KINDS) as Kind[], warning: '' })),
]

function wrongTypes({ event, field, top, fits, warning }: Field): Poison[] {
  return (Object.keys(KINDS) as Kind[]).map((kind) => {
    const member = `{"${field}":${KINDS[kind]}}`
    // The flag is told of whatever it is but absent, true or false; 1e999 is null once it is read again.
    const silent = fits.includes(kind) || (kind === 'null' && field !== '$process_person_profile')
    return {
      name: `${top ? '' : 'properties.'}${field} of ${event}: ${kind}`,
      json: top ? member : properties(member),
      header: { event },
      end: stored,
      warnings: silent ? [] : [warning],
    }
  })
}

/** Groups are read after the steps of a record: what they are told of is not in `warnings`. */
function wrongGroups(): Poison[] {
  return (Object.keys(KINDS) as Kind[]).flatMap((kind): Poison[] => {
    const json = KINDS[kind]
    const row = (what: string, text: string, event = 'e'): Poison => ({
      name: `${what}: ${kind}`,
      json: properties(text),
      header: { event },
      end: stored,
      warnings: what === '$groups' && ![...OBJECTS, 'null'].includes(kind as never) ? ['invalid_groups'] : [],
    })
    const one = '"$group_type":"t","$group_key":"k","$group_set":{"a":1}'
    return [
      row('$groups', `{"$groups":${json}}`),
      row('a key in $groups', `{"$groups":{"t":${json},"__proto__":${json}}}`),
      row('$group_type', `{${one},"$group_type":${json}}`, '$groupidentify'),
      row('$group_key', `{${one},"$group_key":${json}}`, '$groupidentify'),
      row('$group_set', `{${one},"$group_set":${json}}`, '$groupidentify'),
      row(
        'a value in $group_set',
        `{${one},"$group_set":{"a":${json},"__proto__":${json}}}`,
        '$groupidentify',
      ),
    ]
  })
}

const UNREADABLE: Poison[] = [
  {
    name: 'a header of no version',
    json: '{}',
    headerBytes: Uint8Array.of(200),
    end: { deadLetter: 'unreadable_record' },
  },
  {
    name: 'an empty header',
    json: '{}',
    headerBytes: new Uint8Array(),
    end: { deadLetter: 'unreadable_record' },
  },
  ...['', '{', '{"a":1}x', 'NaN', '\u0000', '{"properties":{"a":01}}'].map(
    (json): Poison => ({
      name: `no JSON: ${JSON.stringify(json)}`,
      json,
      end: { deadLetter: 'unreadable_event' },
    }),
  ),
  ...['null', '7', '"x"', '[]', 'true'].map(
    (json): Poison => ({ name: `no object: ${json}`, json, end: { deadLetter: 'unreadable_event' } }),
  ),
  ...['7', '"x"', '[]', 'true'].map(
    (json): Poison => ({
      name: `properties are ${json}`,
      json: properties(json),
      end: { deadLetter: 'unreadable_event' },
    }),
  ),
  { name: 'properties are null', json: properties('null'), end: stored },
  {
    name: 'nested deeper than Postgres reads',
    json: properties(`{"a":${deep(500)}}`),
    end: { deadLetter: 'unreadable_event' },
  },
  {
    name: 'nested so deep that it cannot be written again',
    json: properties(`{"$set":{"a":${deep(100_000)}}}`),
    end: { deadLetter: 'unreadable_event' },
  },
  {
    name: 'nested beside properties',
    json: `{"x":${deep(100_000)}}`,
    end: { deadLetter: 'unreadable_event' },
  },
]

const LARGE: Poison[] = [
  { name: 'as deep as allowed', json: properties(`{"a":${deep(498)},"b":"\\u0000"}`), end: stored },
  {
    name: 'as deep as allowed, for the person',
    json: `{"$set":{"a":${deep(497)}}}`,
    end: stored,
  },
  {
    name: 'a hundred thousand keys',
    json: properties(`{${repeat(100_000, (i) => `"k${i}":1`)}}`),
    end: stored,
  },
  {
    name: 'thirty thousand keys of a person',
    json: `{"$set":{${repeat(30_000, (i) => `"k${i}":1`)}}}`,
    end: stored,
  },
  {
    name: 'a hundred thousand keys to unset',
    json: `{"$unset":[${repeat(100_000, (i) => `"k${i}"`)}]}`,
    end: stored,
  },
  {
    name: 'a hundred thousand groups',
    json: properties(`{"$groups":{${repeat(100_000, (i) => `"g${i}":"k"`)}}}`),
    end: stored,
  },
  {
    name: 'half a megabyte in each of two lifted properties',
    json: properties(`{"$current_url":"${'u'.repeat(500_000)}","utm_source":"${'s'.repeat(500_000)}"}`),
    end: stored,
  },
  {
    name: 'twenty thousand elements',
    json: properties(`{"$elements":[${repeat(20_000, () => '{"tag_name":"a","attr__x":"\\""}')}]}`),
    header: { event: '$autocapture' },
    end: stored,
  },
  {
    name: 'an id of a hundred thousand characters to join',
    json: properties(`{"$anon_distinct_id":"${'x'.repeat(100_000)}"}`),
    header: { event: '$identify' },
    end: stored,
  },
  {
    name: 'a number that would be another one',
    json: properties('{"$anon_distinct_id":12345678901234567890}'),
    header: { event: '$identify' },
    end: stored,
    warnings: ['invalid_anon_distinct_id'],
  },
  {
    name: 'a flag of half a megabyte',
    json: properties(`{"$process_person_profile":[${repeat(100_000, () => '1e20')}]}`),
    end: stored,
    warnings: ['invalid_process_person_profile'],
  },
]

const HEADERS: Poison[] = [
  { name: 'a time before all clocks', json: '{}', header: { timestampMs: -1 }, end: stored },
  {
    name: 'a sending time beyond all dates',
    json: '{}',
    header: { sentAtMs: Number.MAX_SAFE_INTEGER },
    end: stored,
  },
  {
    name: 'nobody',
    json: '{}',
    header: { distinctId: '' },
    end: { drop: 'illegal_distinct_id' },
    warnings: ['skipping_event_invalid_distinct_id'],
  },
  { name: 'a NUL for an id', json: '{}', header: { distinctId: '\0' }, end: stored },
  { name: 'an id that is a key of objects', json: '{}', header: { distinctId: '__proto__' }, end: stored },
  { name: 'no name', json: '{}', header: { event: '' }, end: stored },
  { name: 'a name of a megabyte', json: '{}', header: { event: 'x'.repeat(1_000_000) }, end: stored },
  { name: 'a name that is a key of objects', json: '{}', header: { event: 'constructor' }, end: stored },
  {
    name: 'a token of no project',
    json: '{}',
    header: { token: '__proto__' },
    end: { drop: 'unknown_token' },
  },
  {
    name: 'a report that is none',
    json: deep(100_000),
    header: { disposition: 'report' },
    end: { deadLetter: 'unreadable_event' },
  },
]

export const POISON: readonly Poison[] = [
  ...FIELDS.flatMap(wrongTypes),
  ...wrongGroups(),
  ...UNREADABLE,
  ...LARGE,
  ...HEADERS,
]
