/** I2 after a crash: the index may be behind what was applied, and is never ahead of it, torn or wrong. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { copyFileSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { claimOf, HOUR, LOG, storeRange, uuidOf } from './claims.fixture.ts'
import { Claims } from './claims.ts'
import { DedupMemory } from './dedup-memory.ts'

const SEAL = 256
const BATCH = 64
const KILLS = 8
const LIVES_MS_MAX = 250
const BATCHES_MAX = 20_000

let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'headrace-crash-'))
  path = join(folder, '0.sqlite')
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** What the index knows of the offsets below `to`, each as the copy of an event. */
function holders(index: Claims, to: number): (number | undefined)[] {
  const copies = Array.from({ length: to }, (_, n) => claimOf(to + n, { uuid: uuidOf(n) }))
  return index.judge(copies).map(({ holder }) => holder?.offset)
}

const STORING = `
  import { writeSync } from 'node:fs'
  import { Claims } from '${join(import.meta.dir, 'claims.ts')}'
  import { DedupMemory } from '${join(import.meta.dir, 'dedup-memory.ts')}'
  import { LOG, storeRange } from '${join(import.meta.dir, 'claims.fixture.ts')}'
  const index = Claims.open(process.argv[1], ${HOUR}, { memory: new DedupMemory(2 ** 24, ${SEAL}) })
  let at = index.completeTo(LOG)
  for (let n = 0; n < ${BATCHES_MAX}; n++) {
    storeRange(index, at, at + ${BATCH}, ${BATCH})
    at += ${BATCH}
    writeSync(1, at + '\\n')
    if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
`

test('a process killed at any moment leaves every claim below completeTo, and none above', async () => {
  for (let kill = 0; kill < KILLS; kill++) {
    const child = Bun.spawn([process.execPath, '-e', STORING, path], { stdout: 'pipe', stderr: 'inherit' })
    const reader = child.stdout.getReader()
    let told = new TextDecoder().decode((await reader.read()).value)
    await Bun.sleep(Math.random() * LIVES_MS_MAX)
    child.kill('SIGKILL')
    for (;;) {
      const { value } = await reader.read()
      if (!value) break
      told += new TextDecoder().decode(value)
    }
    await child.exited
    const acknowledged = Number(told.slice(0, told.lastIndexOf('\n')).split('\n').at(-1))
    const index = Claims.open(path, HOUR, { memory: new DedupMemory(2 ** 24, SEAL) })
    const completeTo = index.completeTo(LOG)
    expect(completeTo).toBeGreaterThanOrEqual(acknowledged)
    expect(completeTo).toBeLessThanOrEqual(acknowledged + BATCH)
    expect(index.count()).toBe(completeTo)
    const found = holders(index, completeTo + BATCH)
    expect(found.findIndex((holder, n) => holder !== n)).toBe(completeTo)
    expect(found.slice(completeTo).every((holder) => holder === undefined)).toBe(true)
    index.close()
  }
}, 30_000)

test('a write-ahead log that a power cut ends anywhere leaves an index that is only behind', () => {
  const index = Claims.open(path, HOUR)
  const after: number[] = []
  for (let at = 0; at < 1_500; at += 50) {
    storeRange(index, at, at + 50)
    after.push(statSync(`${path}-wal`).size)
  }
  const copy = join(folder, 'copy.sqlite')
  for (let cut = 0; cut <= after.at(-1)!; cut += 20_011) {
    for (const suffix of ['-wal', '']) copyFileSync(path + suffix, copy + suffix)
    truncateSync(`${copy}-wal`, cut)
    const behind = Claims.open(copy, HOUR)
    const completeTo = behind.completeTo(LOG)
    expect(completeTo).toBe(after.filter((size) => size <= cut).length * 50)
    expect(holders(behind, 1_500).filter((holder) => holder !== undefined)).toHaveLength(completeTo)
    storeRange(behind, completeTo, 1_500)
    expect(holders(behind, 1_500).findIndex((holder, n) => holder !== n)).toBe(-1)
    behind.close()
    for (const suffix of ['', '-wal', '-shm']) rmSync(copy + suffix, { force: true })
  }
  index.close()
}, 30_000)
