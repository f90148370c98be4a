import { expect, test } from 'bun:test'
import { chunksOf, rowsOf, stateOf, type Targets } from './conditions.ts'

const LOG = '00000000-0000-4000-8000-000000000001'
const UUID = '00000000-0000-4000-8000-00000000000a'
const POSITIONS = [
  { logId: LOG, topic: 'raw_events', partition: 0, decided: 5, end: 7 },
  { logId: LOG, topic: 'raw_events', partition: 2, decided: 9, end: 9 },
]
const ANNA: Targets = {
  persons: [{ uuid: UUID, createdMs: 12 }],
  ids: [{ distinctId: `a'nna`, overridden: true }],
}

test('every target is in one chunk, the same one each time, and no chunk outgrows a statement', () => {
  const ids = Array.from({ length: 2_000 }, (_, n) => ({
    distinctId: `${n}`.padStart(200),
    overridden: false,
  }))
  const chunks = chunksOf({ persons: ANNA.persons, ids })
  expect(chunks.flatMap((chunk) => chunk.ids)).toEqual(ids)
  expect(chunks.flatMap((chunk) => chunk.persons)).toEqual(ANNA.persons)
  expect(chunksOf({ persons: ANNA.persons, ids })).toEqual(chunks)
  for (const chunk of chunks)
    for (const table of ['events', 'ingestion_warnings'])
      expect(rowsOf(table, 1, chunk, POSITIONS).length).toBeLessThan(200_000)
  expect(chunksOf({ persons: [], ids: [] })).toEqual([])
})

test('a partition that the deletion did not know is not touched', () => {
  expect(rowsOf('outcomes', 1, ANNA, POSITIONS)).toContain(`_offset < [5,0,9][_partition + 1]`)
  expect(rowsOf('outcomes', 1, ANNA, [])).toEndWith(' AND 0')
})

test('behind what was decided only rows with the old birth go', () => {
  const where = rowsOf('events', 1, ANNA, POSITIONS)
  expect(where).toContain('[5,0,9]')
  expect(where).toContain(
    `[7,0,9][_partition + 1])) AND person_id IN (toUUID('${UUID}')) AND toUnixTimestamp64Milli(person_created_at) IN (12)`,
  )
  expect(rowsOf('outcomes', 1, ANNA, POSITIONS)).not.toContain('[7,0,9]')
})

test('a distinct id stays a value whatever stands in it', () => {
  for (const table of ['events', 'outcomes', 'ingestion_warnings'])
    expect(rowsOf(table, 1, ANNA, POSITIONS)).not.toContain(`a'nna`)
})

test('overrides are taken only of ids that had one, and never the row of somebody new', () => {
  const state = stateOf(1, { ...ANNA, ids: [...ANNA.ids, { distinctId: 'plain', overridden: false }] }, 40)
  expect(state.map(({ table }) => table)).toEqual(['person', 'person_distinct_id_overrides'])
  const [person, overrides] = state.map(({ where }) => where)
  expect(person).toContain('version <= 40')
  expect(overrides).toContain('(version <= 40 OR (version = 41 AND is_deleted = 1))')
  expect(overrides).not.toContain(Buffer.from('plain').toString('hex'))
  expect(stateOf(1, { persons: [], ids: [] }, 40)).toEqual([])
})
