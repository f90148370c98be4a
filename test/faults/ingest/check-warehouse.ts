/**
 * I1 to I4 where they count: the rows of `events` in ClickHouse are the stored events, each once, asked without FINAL and
 * before any merge could have taken a copy away. In the other tables a row that comes again takes the place of the one
 * before: asked with FINAL, or by the newest version, they say the same as the topics. Cost: a line of JSON per event.
 */
import type { Warehouse } from '../../../src/warehouse/index.ts'
import { checkTold, type StoredState, type ToldRows } from './check-state.ts'
import type { Findings } from './findings.ts'
import { type Expected, type Model, placeOf } from './model.ts'

type SourceRow = { log_id: string; partition: number; offset: number }
type EventInTable = SourceRow & { uuid: string; event: string; distinct_id: string }
type EndInTable = SourceRow & { state: string; reason: string }
const SOURCE = 'toString(_log_id) AS log_id, _partition AS partition, _offset AS offset'
/** Its merges would hide a row that is there twice. */
export async function stopMerges(warehouse: Warehouse): Promise<void> {
  await warehouse.command('SYSTEM STOP MERGES events')
}

/** Between two proofs, so that there are never too many parts. */
export async function mergeOnce(warehouse: Warehouse): Promise<void> {
  await warehouse.command('SYSTEM START MERGES events')
  await warehouse.command('OPTIMIZE TABLE events')
  await stopMerges(warehouse)
}

/** Call it behind `checkRows`, which settles what either lane may hold. */
export async function checkWarehouse(
  warehouse: Warehouse,
  model: Model,
  state: StoredState,
  findings: Findings,
): Promise<void> {
  const events = await warehouse.query<EventInTable>(
    `SELECT ${SOURCE}, toString(uuid) AS uuid, event, distinct_id FROM events`,
  )
  checkOnce('events', model, events, ({ state }) => state === 'stored', findings)
  for (const row of events) {
    const header = model.expected.get(placeOfRow(row))?.header
    const isItself =
      row.uuid === header?.uuid && row.event === header.event && row.distinct_id === header.distinctId
    findings.expect(isItself, 'table events has another event', () => placeOfRow(row))
  }
  const dead = await warehouse.query<SourceRow>(`SELECT ${SOURCE} FROM dead_letters FINAL`)
  checkOnce('dead_letters', model, dead, ({ state }) => state === 'dead_lettered', findings)
  const ends = await warehouse.query<EndInTable>(
    `SELECT ${SOURCE}, toString(state) AS state, toString(reason) AS reason FROM outcomes FINAL`,
  )
  checkOnce('outcomes', model, ends, ({ state }) => state !== 'stored', findings)
  for (const row of ends) {
    const expected = model.expected.get(placeOfRow(row))
    const isIt = expected?.state === row.state && expected.reason === row.reason
    findings.expect(isIt, 'table outcomes has another end', () => placeOfRow(row))
  }
  checkTold('table', state, await readTold(warehouse), findings)
}

function checkOnce(
  table: string,
  model: Model,
  rows: readonly SourceRow[],
  belongs: (expected: Expected) => boolean,
  findings: Findings,
): void {
  const seen = new Set<string>()
  for (const row of rows) {
    const place = placeOfRow(row)
    findings.expect(!seen.has(place), `I2: table ${table} has a row twice`, () => place)
    seen.add(place)
    const expected = model.expected.get(place)
    findings.expect(
      expected !== undefined && belongs(expected),
      `table ${table} has a row too many`,
      () => place,
    )
  }
  for (const [place, expected] of model.expected)
    if (belongs(expected)) findings.expect(seen.has(place), `I1: table ${table} lacks a row`, () => place)
}

function placeOfRow({ log_id: logId, partition, offset }: SourceRow): string {
  return placeOf({ logId, partition, offset })
}

async function readTold(warehouse: Warehouse): Promise<ToldRows> {
  return {
    persons: await warehouse.query('SELECT toString(id) AS id, version, is_deleted, properties FROM person'),
    overrides: await warehouse.query(
      'SELECT distinct_id, toString(person_id) AS person_id, version FROM person_distinct_id_overrides',
    ),
    groups: await warehouse.query(
      'SELECT group_type_index, group_key, group_properties, _version FROM groups',
    ),
  }
}
