import { expect, setDefaultTimeout, test } from 'bun:test'
import fc from 'fast-check'
import { scanBatch } from './scan-batch.ts'
import type { V1Candidate } from './scan-event.ts'
import { type EventOptions, Splicer } from './splice.ts'

setDefaultTimeout(60_000)

const NO_OPTIONS: EventOptions = {
  cookielessMode: undefined,
  disableSkewCorrection: undefined,
  processPersonProfile: undefined,
  productTourId: undefined,
}
const LIB = { $lib: 'posthog-node', $lib_version: '5.70.0' }

function scan(event: string): { body: Buffer; candidate: V1Candidate } {
  const body = Buffer.from(`{"created_at":"2026-11-22T12:00:00Z","batch":[${event}]}`)
  return { body, candidate: scanBatch(body, 1).events[0]! }
}

function spliced(event: string, options: Partial<EventOptions> = {}): string {
  const { body, candidate } = scan(event)
  const splicer = new Splicer(LIB.$lib, LIB.$lib_version)
  const members = splicer.members(candidate, { ...NO_OPTIONS, ...options })
  return splicer.value(body, candidate, members).toString()
}

const LIB_TEXT = '"$lib":"posthog-node","$lib_version":"5.70.0"'
const rows: [string, string, string][] = [
  ['no properties', '{"event":"e"}', `{"event":"e","properties":{${LIB_TEXT}}}`],
  ['empty ones', '{"properties":{ } ,"event":"e"}', `{"properties":{ ${LIB_TEXT}} ,"event":"e"}`],
  ['some', '{"properties":{"a":1}}', `{"properties":{"a":1,${LIB_TEXT}}}`],
  [
    'repeated: the last',
    '{"properties":{"$lib":"x"},"properties":{"b":2}}',
    `{"properties":{"$lib":"x"},"properties":{"b":2,${LIB_TEXT}}}`,
  ],
  [
    'a key in escapes is the key',
    '{"properties":{"\\u0024lib":null,"$lib_version":1}}',
    '{"properties":{"\\u0024lib":null,"$lib_version":1}}',
  ],
  ['a name without a version', '{"properties":{"$lib":"x"}}', '{"properties":{"$lib":"x"}}'],
  [
    'a version without a name',
    '{"properties":{"$lib_version":"1"}}',
    '{"properties":{"$lib_version":"1","$lib":"posthog-node"}}',
  ],
  [
    'braces in strings',
    '{"properties":{"a":"}\\"}"},"z":"}"}',
    `{"properties":{"a":"}\\"}",${LIB_TEXT}},"z":"}"}`,
  ],
]
test.each(rows)('%s', (_, event, expected) => {
  expect(spliced(event)).toBe(expected)
})

test('says of every event what it and its options say, and loses no byte of it', () => {
  const key = fc.constantFrom(
    '$session_id',
    '$window_id',
    '$product_tour_id',
    '$cookieless_mode',
    '$ignore_sent_at',
    '$process_person_profile',
    '$lib',
    '$lib_version',
    'a',
    'é',
    '__proto__',
  )
  const text = fc.string({ unit: 'binary', maxLength: 10 })
  const event = fc.record(
    {
      event: text,
      session_id: fc.oneof(text, fc.constant(null)),
      window_id: text,
      properties: fc.dictionary(key, fc.jsonValue({ maxDepth: 2 })),
      x: fc.jsonValue({ maxDepth: 1 }),
    },
    { requiredKeys: ['event'] },
  )
  const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined })
  const options = fc.record({
    cookielessMode: maybe(fc.boolean()),
    disableSkewCorrection: maybe(fc.boolean()),
    processPersonProfile: maybe(fc.boolean()),
    productTourId: maybe(text),
  })
  fc.assert(
    fc.property(event, options, fc.constantFrom(0, 2), (built, given, space) => {
      const sent = JSON.stringify(built, null, space)
      const value = spliced(sent, given)
      const kept = JSON.parse(sent) as { properties?: Record<string, unknown>; [key: string]: unknown }
      const said = Object.entries({
        $session_id: kept.session_id ?? undefined,
        $window_id: kept.window_id,
        $cookieless_mode: given.cookielessMode,
        $ignore_sent_at: given.disableSkewCorrection,
        $product_tour_id: given.productTourId,
        $process_person_profile: given.processPersonProfile,
        $lib: LIB.$lib,
        $lib_version: Object.hasOwn(kept.properties ?? {}, '$lib') ? undefined : LIB.$lib_version,
      }).filter(([name, value]) => value !== undefined && !Object.hasOwn(kept.properties ?? {}, name))
      const { properties = {}, ...rest } = JSON.parse(value) as typeof kept
      const { properties: ownProperties = {}, ...ownRest } = kept
      expect(rest).toEqual(ownRest)
      expect(Object.entries(properties)).toEqual([
        ...Object.entries(ownProperties),
        ...said.map(([name, value]) => [name, JSON.parse(JSON.stringify(value))] as [string, unknown]),
      ])
      // What was added stands in one piece; without it the bytes are those that were sent.
      let head = 0
      while (head < sent.length && value[head] === sent[head]) head++
      expect(sent.slice(0, head) + value.slice(head + value.length - sent.length)).toBe(sent)
    }),
    { numRuns: 500 },
  )
})
