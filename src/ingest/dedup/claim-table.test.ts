import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { ClaimTable } from './claim-table.ts'
import { CLAIM_WORDS, ClaimKeys, isSameDigest } from './claim-words.ts'
import { claimOf, uuidOf } from './claims.fixture.ts'

const keys = new ClaimKeys(7)

test('finds every event, and of another one with its uuid whether there is one', () => {
  // Few uuids with many events each, in a table that is as full as may be.
  const event = fc.record({ id: fc.nat(3), name: fc.nat(9) })
  fc.assert(
    fc.property(fc.array(event, { minLength: 1, maxLength: 64 }), (events) => {
      const words = new Uint32Array(events.length * CLAIM_WORDS)
      const table = new ClaimTable(events.length)
      const put = new Map<string, number>()
      events.forEach(({ id, name }, i) => {
        keys.write(claimOf(i, { uuid: uuidOf(id), event: `e${name}` }), words, i * CLAIM_WORDS)
        let others = 0
        const slot = table.locate(words, words, i * CLAIM_WORDS, (claims, found) => {
          expect(isSameDigest(claims, found, words, i * CLAIM_WORDS)).toBe(false)
          others++
          return false
        })
        const same = [...put.keys()].filter((key) => key.startsWith(`${id}/`) && key !== `${id}/${name}`)
        expect(others).toBe(Math.min(same.length, put.has(`${id}/${name}`) ? others : 2))
        expect(others > 0).toBe(same.length > 0)
        expect(table.slots[slot]).toBe(put.get(`${id}/${name}`) ?? 0)
        table.slots[slot] = i + 1
        put.set(`${id}/${name}`, i + 1)
      })
    }),
  )
})
