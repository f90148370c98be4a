import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { assign } from './assignment.ts'

const members = fc.uniqueArray(fc.uuid(), { minLength: 1, maxLength: 12 })

test('every number has one owner, and counts differ by at most one', () => {
  fc.assert(
    fc.property(members, fc.integer({ min: 1, max: 130 }), (ids, partitions) => {
      const owned = [...assign(ids, partitions).values()]
      expect(owned.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: partitions }, (_, p) => p))
      const counts = owned.map((numbers) => numbers.length)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }),
  )
})

test('a member that joins moves only what it gets', () => {
  fc.assert(
    fc.property(members, fc.uuid(), fc.integer({ min: 1, max: 130 }), (ids, late, partitions) => {
      fc.pre(!ids.includes(late))
      const before = assign(ids, partitions)
      const after = assign([...ids, late], partitions)
      for (const id of ids) for (const p of after.get(id)!) expect(before.get(id)).toContain(p)
    }),
  )
})
