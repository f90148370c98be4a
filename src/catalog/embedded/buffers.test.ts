import { describe, expect, test } from 'bun:test'
import { postgresBuffersMb } from './buffers.ts'

const GB = 2 ** 30

describe('postgresBuffersMb', () => {
  test.each([
    ['what was chosen holds, below the least', 32, 8 * GB, 32],
    ['what was chosen holds, above the most', 4_096, 8 * GB, 4_096],
    ['an eighth of the memory', 0, 4 * GB, 512],
    ['not below 64 MB on a small machine', 0, GB / 4, 64],
    ['not above 2 GB on a large one', 0, 256 * GB, 2_048],
  ])('%s', (_rule, chosenMb, memoryBytes, expected) => {
    expect(postgresBuffersMb(chosenMb, memoryBytes)).toBe(expected)
  })

  test('finds the memory there is by itself', () => {
    const mb = postgresBuffersMb(0)
    expect(mb).toBeGreaterThanOrEqual(64)
    expect(mb).toBeLessThanOrEqual(2_048)
  })
})
