/** What the tables of a load process may hold, together and each (I6). */
import { describe, expect, test } from 'bun:test'
import { setImmediate } from 'node:timers/promises'
import { memoryOf, RowMemory } from './memory.ts'

const MB = 2 ** 20
const TABLES = 7

class Table {
  waiting = 0
  sending = 0
  /** Its inserts are not taken. */
  waits = false

  constructor(
    private readonly memory: RowMemory,
    readonly readersCount = 1,
  ) {
    memory.add(this)
  }

  held(): number {
    return this.waiting + this.sending
  }

  /** Reads until it may read no more. */
  read(most = 1_000 * MB): void {
    while (this.held() < most && this.memory.mayRead(this, this.waiting, this.waits) > 0) this.waiting += MB
  }

  cut(): void {
    this.sending = this.waiting
    this.waiting = 0
  }
}

const tablesOf = (bytesMax: number) => {
  const memory = new RowMemory(bytesMax, TABLES)
  return Array.from({ length: TABLES }, () => new Table(memory))
}
const total = (tables: Table[]) => tables.reduce((sum, table) => sum + table.held(), 0)

describe('192 MB', () => {
  test('one table that is far behind: half waits, half is on its way', () => {
    const [events] = tablesOf(192 * MB)
    events!.read()
    expect(events!.waiting).toBe(78 * MB)
    events!.cut()
    events!.read()
    expect(events!.held()).toBe(156 * MB)
  })

  test('all are far behind: together they hold no more, and each can go on', () => {
    const tables = tablesOf(192 * MB)
    for (let round = 0; round < 3; round++) {
      for (const table of tables) table.read()
      expect(total(tables)).toBeLessThanOrEqual(192 * MB)
      for (const table of tables) expect(table.held()).toBeGreaterThanOrEqual(6 * MB)
      for (const table of tables) table.cut()
    }
  })

  test('one that ClickHouse does not take reads no further than its share, and the others go on', () => {
    const [persons, events] = tablesOf(192 * MB)
    persons!.read(20 * MB)
    persons!.cut()
    persons!.waits = true
    persons!.read()
    expect(persons!.held()).toBe(20 * MB)
    events!.read()
    events!.cut()
    events!.read()
    expect(events!.held()).toBe(142 * MB)
  })
})

test('however many partitions are read at once, together they read what there is room for', () => {
  const memory = new RowMemory(192 * MB, TABLES)
  const tables = Array.from({ length: TABLES }, () => new Table(memory, 64))
  for (let round = 0; round < 50; round++) {
    // All ask before the first one has read.
    const reads = tables.map((table) => memory.mayRead(table, table.waiting, false) * table.readersCount)
    for (const [i, table] of tables.entries()) table.waiting += reads[i]!
  }
  expect(total(tables)).toBeGreaterThan(180 * MB)
  // 64 kB for each, at most.
  expect(total(tables)).toBeLessThanOrEqual((192 + TABLES * 4) * MB)
})

test('small rows weigh more than their bytes', () => {
  expect(memoryOf(1_000, 50_000)).toBe(350_000)
})

test('what is let go of is collected when it is a third of the whole', async () => {
  const memory = new RowMemory(96 * MB, TABLES)
  const rows = Array.from({ length: 16 }, () => new WeakRef(new Uint8Array(1_000)))
  // Whoever is asked for lives on until this turn ends.
  const left = async () => {
    await setImmediate()
    return rows.filter((row) => row.deref()).length
  }
  memory.letGo(31 * MB)
  expect(await left()).toBe(16)
  await setImmediate()
  memory.letGo(2 * MB)
  expect(await left()).toBeLessThan(8)
})
