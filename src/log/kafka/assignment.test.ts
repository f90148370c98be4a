import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { assignNumbers, type Claimant } from './assignment.ts'

/** Plays rounds as members do: each keeps what it got, lets go of what it did not, and claims that next time. */
function settle(start: Claimant[], partitions: number): { rounds: number; owned: Map<string, number[]> } {
  let members = start
  for (let rounds = 1; ; rounds++) {
    const shares = assignNumbers(members, partitions)
    const before = new Map(members.map((member) => [member.id, new Set(member.owned)]))
    // Nobody gets what another one still claims.
    for (const [id, share] of shares)
      for (const number of share)
        for (const [other, owned] of before) if (other !== id) expect(owned.has(number)).toBe(false)
    const moved = members.some((member) =>
      member.owned.some((number) => !shares.get(member.id)!.includes(number)),
    )
    members = members.map(({ id }) => ({ id, owned: shares.get(id)!, generation: rounds }))
    if (!moved) return { rounds, owned: shares }
    expect(rounds).toBeLessThan(4)
  }
}

const group = fc
  .record({
    members: fc.integer({ min: 1, max: 7 }),
    partitions: fc.integer({ min: 1, max: 70 }),
    seed: fc.nat(),
  })
  .map(({ members, partitions, seed }) => {
    const claimants: Claimant[] = Array.from({ length: members }, (_, i) => ({
      id: `m${i}`,
      owned: [],
      generation: 0,
    }))
    let state = seed
    for (let number = 0; number < partitions; number++) {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31
      const holder = claimants[state % (members + 1)]
      holder?.owned.push(number)
    }
    return { claimants, partitions }
  })

describe('assignNumbers', () => {
  test('settles on every number owned once, as evenly as can be, handing over before giving away', () => {
    fc.assert(
      fc.property(group, ({ claimants, partitions }) => {
        const { owned } = settle(claimants, partitions)
        const all = [...owned.values()].flat().sort((a, b) => a - b)
        expect(all).toEqual(Array.from({ length: partitions }, (_, i) => i))
        const sizes = [...owned.values()].map((numbers) => numbers.length)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      }),
    )
  })

  test('only as many numbers move as balance asks for', () => {
    const members = [
      { id: 'a', owned: [0, 1, 2, 3], generation: 4 },
      { id: 'b', owned: [4, 5, 6, 7], generation: 4 },
      { id: 'c', owned: [], generation: -1 },
    ]
    const { owned } = settle(members, 8)
    expect(owned.get('a')!.filter((n) => n < 4)).toHaveLength(3)
    expect(owned.get('b')!.filter((n) => n >= 4)).toHaveLength(3)
    expect(owned.get('c')).toHaveLength(2)
  })

  test('when two claim a number, the one with the newer generation has it', () => {
    const shares = assignNumbers(
      [
        { id: 'zombie', owned: [0], generation: 3 },
        { id: 'heir', owned: [0], generation: 5 },
      ],
      2,
    )
    expect(shares.get('heir')).toEqual([0])
    expect(shares.get('zombie')).toEqual([1])
  })

  test('claims beyond the last number are nobody’s', () => {
    expect(assignNumbers([{ id: 'a', owned: [9], generation: 1 }], 2).get('a')).toEqual([0, 1])
  })
})
