import { Database } from 'bun:sqlite'
import { afterEach, beforeEach, describe, expect, spyOn, test } from 'bun:test'
import * as fs from 'node:fs'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { claimOf, HOUR, LOG, storeRange, uuidOf } from './claims.fixture.ts'
import { Claims } from './claims.ts'
import { DedupMemory } from './dedup-memory.ts'

const OTHER_LOG = '22222222-2222-4222-8222-222222222222'
const SEAL = 128
/** Small enough that some filters are in memory and some are not. */
const FILTERS = 2_000

let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'headrace-tiers-'))
  path = join(folder, '0.sqlite')
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

function open(windowMs = HOUR, filterBytes = FILTERS): Claims {
  return Claims.open(path, windowMs, { memory: new DedupMemory(filterBytes * 2, SEAL) })
}

function runFiles(): string[] {
  const runs = `${path}.runs`
  return existsSync(runs) ? readdirSync(runs).filter((file) => file.endsWith('.run')) : []
}

/** Offsets whose copies are not recognised. */
function missed(index: Claims, to: number): number[] {
  const copies = Array.from({ length: to }, (_, offset) =>
    claimOf(to + offset, { uuid: uuidOf(offset), appendedMs: 1_000_000 + to }),
  )
  const verdicts = index.judge(copies)
  return verdicts.flatMap((verdict, offset) => (verdict.holder?.offset === offset ? [] : [offset]))
}

describe('claims that were moved into runs', () => {
  test.each([
    ['all filters in memory', 2 ** 20],
    ['no filter in memory', 0],
  ])('are found, and others are not: %s', (_, filterBytes) => {
    const index = open(HOUR, filterBytes)
    storeRange(index, 0, 5_000)
    expect(runFiles().length).toBeGreaterThan(3)
    expect(missed(index, 5_000)).toEqual([])
    const others = Array.from({ length: 5_000 }, (_, i) => claimOf(90_000 + i))
    expect(index.judge(others).every(({ kind }) => kind === 'first')).toBe(true)
    expect(index.count()).toBe(5_000)
    index.close()
  })

  test('are merged: eight neighbours are one, and one again', () => {
    const index = open()
    storeRange(index, 0, SEAL * 8 * 8 * 2)
    // Of each of two levels eight that are merged and fewer that came meanwhile; two of the third.
    expect(runFiles().length).toBeLessThan(32)
    expect(missed(index, SEAL * 8 * 8 * 2)).toEqual([])
    index.close()
  })

  test('are there after it is opened again, wherever it was left', () => {
    for (let to = 0; to < 2_000; to += 130) {
      const index = open()
      expect(missed(index, to)).toEqual([])
      expect(index.completeTo(LOG)).toBe(to)
      storeRange(index, to, to + 130)
      index.close()
    }
  })

  test('one that was taken over is the newer one, in whatever files the two are', () => {
    const index = open()
    const replayOf = { logId: LOG, partition: 0, offset: 3, sub: 0 }
    storeRange(index, 0, 400)
    index.store([claimOf(9_000, { uuid: uuidOf(3), appendedMs: 1_000_400, replayOf })], LOG, 9_001)
    for (let at = 400; at < 4_000; at += 300) {
      expect(index.judge([claimOf(9_500, { uuid: uuidOf(3) })])[0]!.holder?.offset).toBe(9_000)
      storeRange(index, at, at + 300)
    }
    index.close()
  })

  test('expire as whole runs, and the disk stays below twice the window', () => {
    const windowMs = 4_000
    const index = open(windowMs)
    let most = 0
    for (let at = 0; at < 20_000; at += 1_000) {
      storeRange(index, at, at + 1_000)
      most = Math.max(most, index.count())
    }
    // One claim per ms: the window holds 4,000.
    expect(most).toBeLessThan(windowMs * 1.5)
    const copies = Array.from({ length: windowMs }, (_, i) =>
      claimOf(50_000, { uuid: uuidOf(16_000 + i), appendedMs: 1_020_000 }),
    )
    expect(index.judge(copies).every(({ kind }) => kind === 'duplicate')).toBe(true)
    index.close()
  })

  test('stay for a lane that lags, however far the other one has come', () => {
    const windowMs = 4_000
    const index = open(windowMs)
    const lagsAtMs = claimOf(0).appendedMs
    for (let at = 0; at < 20_000; at += 50) {
      index.reached(lagsAtMs)
      index.store(
        Array.from({ length: 50 }, (_, i) => claimOf(at + i)),
        LOG,
        at + 50,
      )
    }
    const copies = Array.from({ length: 1_000 }, (_, i) =>
      claimOf(i, { logId: OTHER_LOG, appendedMs: lagsAtMs + 1_000 }),
    )
    expect(index.judge(copies).every(({ kind }) => kind === 'duplicate')).toBe(true)
    // It catches up: they go.
    storeRange(index, 20_000, 24_000)
    expect(index.count()).toBeLessThan(windowMs * 1.5)
    index.close()
  })
})

test('agrees with a map over any sequence of batches, reopenings and writes of another owner', () => {
  const batch = fc.record({
    ids: fc.array(fc.tuple(fc.nat(300), fc.constantFrom('a', 'b')), { maxLength: 30 }),
    stepMs: fc.nat(40),
    next: fc.constantFrom('go on', 'go on', 'go on', 'reopen', 'other owner'),
  })
  fc.assert(
    fc.property(fc.array(batch, { minLength: 40, maxLength: 120 }), (batches) => {
      rmSync(folder, { recursive: true, force: true })
      fs.mkdirSync(folder)
      const windowMs = 1_500
      let index = open(windowMs)
      let other = open(windowMs)
      const model = new Map<string, { offset: number; appendedMs: number }>()
      const current = (uuid: string, event: string, nowMs: number) => {
        const claim = model.get(`${uuid}/${event}`)
        return claim && nowMs - claim.appendedMs <= windowMs ? claim : undefined
      }
      let offset = 0
      let nowMs = 1_000_000
      for (const { ids, stepMs, next } of batches) {
        nowMs += stepMs
        const requests = ids.map(([id, event]) =>
          claimOf(offset++, { uuid: uuidOf(id), event, appendedMs: nowMs }),
        )
        index.reached(nowMs)
        const verdicts = index.judge(requests)
        const accepted = requests.filter((request, i) => {
          const holder = current(request.uuid, request.event, nowMs)
          const reused = current(request.uuid, request.event === 'a' ? 'b' : 'a', nowMs) !== undefined
          expect(verdicts[i]!.holder?.offset).toBe(holder?.offset)
          expect(verdicts[i]!.uuidReused).toBe(holder === undefined && reused)
          if (holder) return false
          model.set(`${request.uuid}/${request.event}`, request)
          return true
        })
        index.store(accepted, LOG, offset)
        if (next === 'other owner') [index, other] = [other, index]
        if (next === 'reopen') {
          index.close()
          index = open(windowMs)
        }
      }
      index.close()
      other.close()
    }),
    { numRuns: 10 },
  )
}, 30_000)

describe('what a crash leaves', () => {
  test('a file that no manifest names is removed', () => {
    const index = open()
    storeRange(index, 0, 200)
    index.close()
    const stray = join(`${path}.runs`, 'stray.run')
    writeFileSync(stray, 'half of a run')
    const anew = open()
    expect(missed(anew, 200)).toEqual([])
    expect(existsSync(stray)).toBe(false)
    anew.close()
  })

  test('a file that another owner removed on its way is made again', () => {
    const index = open()
    storeRange(index, 0, SEAL, SEAL)
    storeRange(index, SEAL, SEAL + 1)
    const [file] = runFiles()
    rmSync(join(`${path}.runs`, file!))
    storeRange(index, SEAL + 1, 1_000)
    expect(missed(index, 1_000)).toEqual([])
    index.close()
  })

  test('an index in the format of the first version is removed: it is built anew from the log', () => {
    const old = new Database(path, { create: true })
    old.run('CREATE TABLE claim (uuid BLOB)')
    old.run('CREATE TABLE log (number INTEGER PRIMARY KEY, log_id TEXT, complete_to INTEGER)')
    old.run('INSERT INTO log VALUES (1, ?, 77)', [LOG])
    old.close()
    const index = open()
    expect(index.completeTo(LOG)).toBe(0)
    storeRange(index, 0, 300)
    expect(missed(index, 300)).toEqual([])
    index.close()
  })
})

describe('damage to a run', () => {
  function damage(change: (bytes: Buffer) => Buffer): { code: string; after: () => Claims } {
    const index = open()
    storeRange(index, 0, 1_000)
    index.close()
    for (const file of runFiles()) {
      const at = join(`${path}.runs`, file)
      writeFileSync(at, change(readFileSync(at)))
    }
    const damaged = open()
    let code = 'none'
    try {
      missed(damaged, 1_000)
    } catch (error) {
      code = (error as { code: string }).code
    }
    damaged.close()
    return { code, after: () => open() }
  }

  const flipAt = (position: number) => (bytes: Buffer) => {
    bytes[position]! ^= 1
    return bytes
  }

  test.each<[string, (bytes: Buffer) => Buffer]>([
    ['a bit of the header', flipAt(12)],
    ['a bit of a claim', flipAt(4_096 + 100)],
    ['a bit of the filter', (bytes) => flipAt(bytes.length - 90)(bytes)],
    ['a bit of the fences', (bytes) => flipAt(bytes.length - 2)(bytes)],
    ['a torn end', (bytes) => bytes.subarray(0, bytes.length - 40)],
    ['nothing left', () => Buffer.alloc(0)],
    ['a block of zeros', (bytes) => (bytes.length < 8_192 ? bytes : bytes.fill(0, 4_096, 8_192))],
  ])('%s is told, put aside, and the index starts empty', (_, change) => {
    const { code, after } = damage(change)
    expect(code).toBe('HR_DEDUP_DAMAGED')
    const anew = after()
    expect([anew.completeTo(LOG), anew.count(), runFiles().length]).toEqual([0, 0, 0])
    expect(readdirSync(`${path}.damaged.runs`)).toHaveLength(1)
    anew.close()
  })

  test('a missing file is damage, too', () => {
    const index = open()
    storeRange(index, 0, 1_000)
    index.close()
    rmSync(`${path}.runs`, { recursive: true })
    const damaged = open()
    expect(() => missed(damaged, 10)).toThrow(expect.objectContaining({ code: 'HR_DEDUP_DAMAGED' }))
    damaged.close()
    const anew = open()
    expect(anew.count()).toBe(0)
    anew.close()
  })
})

describe('a disk that takes no more', () => {
  test.each(['ENOSPC', 'EIO', 'EDQUOT'])('%s is waited for, and nothing is lost or half stored', (code) => {
    const index = open()
    storeRange(index, 0, 1_000)
    const full = spyOn(fs, 'writeSync').mockImplementation(() => {
      throw Object.assign(new Error('said'), { code })
    })
    let stored = 1_000
    try {
      for (; ; stored += 50) storeRange(index, stored, stored + 50)
    } catch (error) {
      expect(error).toMatchObject({ code: 'HR_DEDUP_UNAVAILABLE', class: 'retriable' })
    } finally {
      full.mockRestore()
    }
    expect(index.completeTo(LOG)).toBe(stored)
    expect(missed(index, stored)).toEqual([])
    storeRange(index, stored, stored + 500)
    expect(missed(index, stored + 500)).toEqual([])
    index.close()
  })
})

test('its size is that of its files', () => {
  const index = open()
  storeRange(index, 0, 3_000)
  const inFiles = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && (entry.name.endsWith('.run') || /sqlite(-wal)?$/.test(entry.name)))
    .reduce((sum, entry) => sum + fs.statSync(join(entry.parentPath, entry.name)).size, 0)
  const { claims, bytes } = index.size()
  expect(claims).toBe(3_000)
  expect(bytes).toBeGreaterThan(inFiles * 0.5)
  expect(bytes).toBeLessThanOrEqual(inFiles)
  index.close()
})
