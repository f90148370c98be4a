import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { murmur2, partitionOf } from './partition.ts'
import {
  DEAD_LETTER_REASONS,
  type DeadLetterReason,
  DROP_REASONS,
  type DropReason,
  deadLetterCode,
  describeOutcome,
  dropCode,
  STORED,
} from './reasons.ts'
import {
  canonicalUuid,
  childUuid,
  derivedEventUuid,
  personUuid,
  uuidBytes,
  uuidText,
  uuidV5,
  uuidV7,
} from './uuid.ts'

describe('uuid', () => {
  test('any spelling becomes the canonical one', () => {
    fc.assert(
      fc.property(fc.uuid(), (uuid) => {
        expect(canonicalUuid(uuid.toUpperCase())).toBe(uuid)
        expect(canonicalUuid(uuid.replaceAll('-', ''))).toBe(uuid)
        expect(canonicalUuid(uuid)).toBe(uuid)
        expect(uuidText(uuidBytes(uuid)!)).toBe(uuid)
      }),
    )
  })

  test('one that differs in a single character is read as that, or not at all', () => {
    const strange = fc.constantFrom(
      '-',
      '_',
      'g',
      'G',
      '`',
      '@',
      '/',
      ':',
      ' ',
      '\0',
      '\u0130',
      '\uff10',
      '\ud800',
    )
    const other = fc.oneof(strange, fc.constantFrom(...'0123456789abcdefABCDEF'))
    fc.assert(
      fc.property(fc.uuid(), fc.nat(35), other, (uuid, at, character) => {
        const text = uuid.slice(0, at) + character + uuid.slice(at + 1)
        const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
        const expected = isUuid ? text.toLowerCase() : undefined
        expect(canonicalUuid(text)).toBe(expected)
        expect(uuidBytes(text) && uuidText(uuidBytes(text)!)).toBe(expected)
      }),
      { numRuns: 2000 },
    )
  })

  test.each([
    '',
    'x',
    '018f4b2e-0000-7000-8000-00000000000',
    '018f4b2e-0000-7000-8000-00000000000g',
    '018f4b2e_0000-7000-8000-000000000000',
    '018f4b2e0-000-7000-8000-000000000000',
    '018f4b2e-0000-7000-8000-0000000-0000',
    '018f4b2e-0000-7000-8000-00000000000\u0130',
    '018f4b2e00007000800000000000000g',
    '018f4b2e0000700080000000000000\u01300',
  ])('"%s" is none', (text) => {
    expect(canonicalUuid(text)).toBeUndefined()
  })

  test('v7 carries its time, version and variant', () => {
    const uuid = uuidV7(0x0123_4567_89ab)
    expect(uuid).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(uuidV7(-5)).toStartWith('00000000-0000-7')
  })

  test('a person has the id that PostHog gives it', () => {
    // Python: uuid.uuid5(uuid.UUID('932979b4-65c3-4424-8467-0b66ec27bc22'), '1:abc')
    expect(personUuid(1, 'abc')).toBe('07738276-ab30-525b-9ece-796064758bd4')
  })

  test.each(['', 'ü😀\ud800', 'x'.repeat(681), 'ü'.repeat(700), 'x'.repeat(5_000)])(
    'also for an id of any length and alphabet',
    (distinctId) => {
      const namespace = uuidBytes('932979b4-65c3-4424-8467-0b66ec27bc22')!
      const expected = uuidV5(namespace, `7:${distinctId}`)
      expect(personUuid(7, distinctId)).toBe(expected)
      // The next one is not written over what is left of it.
      expect(personUuid(7, 'a')).toBe(uuidV5(namespace, '7:a'))
      expect(personUuid(7, distinctId)).toBe(expected)
    },
  )

  test('a derived id depends on token and bytes, a child on its number', () => {
    const bytes = Buffer.from('{"event":"a"}')
    expect(derivedEventUuid('t', bytes)).toBe(derivedEventUuid('t', bytes))
    expect(derivedEventUuid('u', bytes)).not.toBe(derivedEventUuid('t', bytes))
    const parent = uuidV7(1)
    expect(childUuid(parent, 1)).not.toBe(childUuid(parent, 2))
  })
})

describe('I3: partition', () => {
  test.each([
    // From Kafka's own UtilsTest.
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ])('murmur2 of "%s" is Kafka\'s', (text, expected) => {
    expect(murmur2(Buffer.from(text))).toBe(expected & 0x7fffffff)
  })

  test('within range, and the same for the same key, also for a key that does not fit the scratch space', () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 5000 }),
        fc.integer({ min: 1, max: 256 }),
        (distinctId, partitions) => {
          const key = { kind: 'distinctId', token: 't', distinctId } as const
          const partition = partitionOf(key, partitions)
          expect(partition).toBeLessThan(partitions)
          expect(partition).toBe(murmur2(Buffer.from(`t:${distinctId}`)) % partitions)
        },
      ),
    )
  })
})

describe('outcome codes', () => {
  test('each reason has its own code and is described by it', () => {
    const codes = new Set<number>([STORED])
    for (const reason of Object.keys(DROP_REASONS) as DropReason[]) {
      expect(describeOutcome(dropCode(reason))).toEqual({ state: 'dropped', reason })
      codes.add(dropCode(reason))
    }
    for (const reason of Object.keys(DEAD_LETTER_REASONS) as DeadLetterReason[]) {
      expect(describeOutcome(deadLetterCode(reason))).toEqual({ state: 'dead_lettered', reason })
      codes.add(deadLetterCode(reason))
    }
    expect(codes.size).toBe(1 + Object.keys(DROP_REASONS).length + Object.keys(DEAD_LETTER_REASONS).length)
    expect(() => describeOutcome(99)).toThrow('99')
  })
})
