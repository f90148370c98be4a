import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { comparePlaces } from '../event/index.ts'
import { decodePlaces, encodePlaces } from './erased-places.ts'

const place = fc.record({ offset: fc.integer({ min: 0, max: 9_999 }), sub: fc.integer({ min: 0, max: 3 }) })
const places = fc.uniqueArray(place, { minLength: 1, selector: ({ offset, sub }) => `${offset}/${sub}` })

test('what is unpacked are the places that were packed, wherever they begin', () => {
  fc.assert(
    fc.property(places, fc.integer({ min: 0, max: 2 ** 40 }), (some, base) => {
      const sorted = some.map(({ offset, sub }) => ({ offset: base + offset, sub })).sort(comparePlaces)
      const from = sorted[0]!.offset
      const back = decodePlaces(from, encodePlaces(from, sorted)).sort(comparePlaces)
      expect(back).toEqual(sorted)
    }),
  )
})

test('neighbours cost three bytes however many they are', () => {
  const some = Array.from({ length: 100 }, (_, i) => ({ offset: 7 + i, sub: 0 }))
  expect(encodePlaces(7, some).length).toBe(3)
})
