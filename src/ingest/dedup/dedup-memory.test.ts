import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HOUR, storeRange } from './claims.fixture.ts'
import { Claims } from './claims.ts'
import { DedupMemory } from './dedup-memory.ts'

const MB = 2 ** 20

test.each([
  [512, 1, 65_536],
  [512, 16, 65_536],
  [512, 64, 32_768],
  [64, 64, 4_096],
  [64, 1_000, 4_096],
])('%d MB for %d indexes: each holds %d claims', (mb, indexes, claims) => {
  const memory = new DedupMemory(mb * MB)
  for (let n = 0; n < indexes; n++) memory.join()
  expect(memory.sealClaims).toBe(claims)
  for (let n = 1; n < indexes; n++) memory.leave()
  expect(memory.sealClaims).toBe(new DedupMemory(mb * MB).sealClaims)
})

test('I6: however many claims come, all indexes together stay within it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'headrace-memory-'))
  const memory = new DedupMemory(4 * MB)
  const indexes = Array.from({ length: 4 }, (_, n) =>
    Claims.open(join(folder, `${n}.sqlite`), HOUR, { memory }),
  )
  let most = 0
  for (let at = 0; at < 40_000; at += 1_000) {
    for (const index of indexes) storeRange(index, at, at + 1_000, 1_000)
    most = Math.max(
      most,
      indexes.reduce((sum, index) => sum + index.size().memoryBytes, 0),
    )
  }
  expect(most).toBeLessThan(4 * MB)
  // It is used, too: this is no bound that is met by holding nothing.
  expect(most).toBeGreaterThan(MB / 2)
  for (const index of indexes) index.close()
  rmSync(folder, { recursive: true })
})
