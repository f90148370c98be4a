import { afterEach, beforeEach, expect, test } from 'bun:test'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCli } from '../../cli/index.ts'
import { claimOf, HOUR, LOG, storeRange, uuidOf } from './claims.fixture.ts'
import { Claims } from './claims.ts'
import { DedupMemory } from './dedup-memory.ts'
import { dedupFolder, restoreDedup, snapshotDedup } from './snapshot.ts'

let root: string
let here: string
let there: string
let copy: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'headrace-snapshot-'))
  here = join(root, 'here')
  there = join(root, 'there')
  copy = join(root, 'copies', 'monday')
  mkdirSync(dedupFolder(here), { recursive: true })
})

afterEach(() => rmSync(root, { recursive: true, force: true }))

function open(dataDir: string, partition = 0): Claims {
  return Claims.open(join(dedupFolder(dataDir), `${partition}.sqlite`), HOUR, {
    memory: new DedupMemory(2 ** 24, 64),
  })
}

function known(index: Claims, to: number): number {
  const copies = Array.from({ length: to }, (_, n) => claimOf(to + n, { uuid: uuidOf(n) }))
  return index.judge(copies).filter(({ holder }, n) => holder?.offset === n).length
}

test('a snapshot beside a working owner is one moment, and goes on elsewhere from where it is complete', () => {
  const owner = open(here)
  storeRange(owner, 0, 3_010)
  const second = open(here, 11)
  storeRange(second, 0, 10)
  const copied = snapshotDedup(here, copy)
  expect(copied.map(({ partition }) => partition)).toEqual([0, 11])
  expect(copied[0]!.bytes).toBeGreaterThan(3_010 * 36)
  storeRange(owner, 3_010, 9_000)
  expect(known(owner, 9_000)).toBe(9_000)
  owner.close()
  second.close()

  restoreDedup(copy, there)
  const heir = open(there)
  expect(heir.completeTo(LOG)).toBe(3_010)
  expect(known(heir, 4_000)).toBe(3_010)
  storeRange(heir, 3_010, 5_000)
  expect(known(heir, 5_000)).toBe(5_000)
  heir.close()
  const elsewhere = open(there, 11)
  expect(elsewhere.completeTo(LOG)).toBe(10)
  elsewhere.close()
  // What its heir did with its own copy has not touched the snapshot.
  restoreDedup(copy, join(root, 'third'))
  const third = open(join(root, 'third'))
  expect(known(third, 4_000)).toBe(3_010)
  third.close()
})

test('nothing is overwritten, and nothing is no snapshot', () => {
  const owner = open(here)
  storeRange(owner, 0, 200)
  owner.close()
  snapshotDedup(here, copy)
  const refused = expect.objectContaining({ code: 'HR_DEDUP_SNAPSHOT' })
  expect(() => snapshotDedup(here, copy)).toThrow(refused)
  expect(() => restoreDedup(copy, here)).toThrow(refused)
  expect(() => restoreDedup(join(root, 'nowhere'), there)).toThrow(refused)
  expect(() => snapshotDedup(there, join(root, 'other'))).toThrow(refused)
  expect(existsSync(dedupFolder(there))).toBe(false)
})

test.each(['-wal', '-shm'])('beside the %s of an older index nothing is restored', (suffix) => {
  const owner = open(here)
  storeRange(owner, 0, 200)
  snapshotDedup(here, copy)
  // Of an index that was at work and whose file somebody removed: it would be played into the one that is restored.
  const path = join(dedupFolder(there), '0.sqlite')
  mkdirSync(dedupFolder(there), { recursive: true })
  const older = open(there)
  storeRange(older, 5_000, 6_000)
  copyFileSync(path + suffix, join(root, 'left'))
  older.close()
  rmSync(dedupFolder(there), { recursive: true })
  mkdirSync(dedupFolder(there))
  copyFileSync(join(root, 'left'), path + suffix)
  expect(() => restoreDedup(copy, there)).toThrow(expect.objectContaining({ code: 'HR_DEDUP_SNAPSHOT' }))
  expect(readdirSync(dedupFolder(there))).toEqual([`0.sqlite${suffix}`])
  rmSync(path + suffix)
  restoreDedup(copy, there)
  const heir = open(there)
  expect([heir.completeTo(LOG), known(heir, 300)]).toEqual([200, 200])
  heir.close()
  owner.close()
})

test('what a snapshot left that was cut off is no obstacle', () => {
  const owner = open(here)
  storeRange(owner, 0, 200)
  owner.close()
  mkdirSync(join(dedupFolder(here), 'snapshot.staging'))
  writeFileSync(join(dedupFolder(here), 'snapshot.staging', '0.sqlite'), 'half')
  snapshotDedup(here, copy)
  expect(existsSync(join(dedupFolder(here), 'snapshot.staging'))).toBe(false)
  mkdirSync(join(dedupFolder(there), '0.sqlite.runs'), { recursive: true })
  writeFileSync(join(dedupFolder(there), '0.sqlite.runs', 'half.run'), 'half')
  restoreDedup(copy, there)
  const heir = open(there)
  expect(known(heir, 300)).toBe(200)
  heir.close()
})

test('headrace dedup snapshot and restore', async () => {
  const owner = open(here)
  storeRange(owner, 0, 500)
  owner.close()
  expect(await runCli(['dedup', 'snapshot', copy, '--data-dir', here])).toBe(0)
  expect(readdirSync(copy).sort()).toEqual(['0.sqlite', '0.sqlite.runs'])
  expect(await runCli(['dedup', 'restore', copy, '--data-dir', there, '--json'])).toBe(0)
  const heir = open(there)
  expect(known(heir, 500)).toBe(500)
  heir.close()
  expect(await runCli(['dedup', 'restore', copy, '--data-dir', there])).toBe(1)
})
