/**
 * The proof that ends a scenario, when all is worked off and loaded. In: the raw log since its beginning, folded anew by
 * the model. Out: what it came to, or one error with all that is wrong in the output topics, Postgres and ClickHouse.
 */
import type { Sql } from '../../../src/catalog/index.ts'
import { audit } from '../../../src/ledger/index.ts'
import type { Log } from '../../../src/log/index.ts'
import type { Warehouse } from '../../../src/warehouse/index.ts'
import { checkReceipts } from './check-receipts.ts'
import { checkRows } from './check-rows.ts'
import { checkState } from './check-state.ts'
import { checkWarehouse, mergeOnce } from './check-warehouse.ts'
import { Findings } from './findings.ts'
import type { RawRecord } from './model.ts'
import { readFences, readOutput, readRaw, readReceipts, readState } from './read.ts'

const NAMED_DEFECTS_MAX = 3

export type Proven = {
  records: number
  stored: number
  duplicates: number
  dropped: number
  deadLettered: number
  persons: number
  receipts: number
  restamped: number
  /** Rows and outcomes that were produced again. */
  copies: number
}

export type Deployment = {
  log: Log
  sql: Sql
  warehouse: Warehouse
  teamId: number
  partitions: number
  /** Decided records of raw topics that are not there any more. */
  former: readonly RawRecord[]
  /** What went with such a topic and was decided by nobody. */
  lost: readonly RawRecord[]
  /** How many records were acknowledged and can still be stored. */
  captured: number
  /** Ends of lives that nobody caused. */
  defects: readonly string[]
}

export async function proveAll(deployment: Deployment): Promise<Proven> {
  const { log, sql, warehouse, teamId, partitions, former, lost, captured, defects } = deployment
  const findings = new Findings()
  const { model, lanes } = await readRaw(log, partitions, former, lost)
  const output = await readOutput(log)
  const receipts = await readReceipts(sql)
  const { copies } = checkRows(model, output, findings)
  checkReceipts(model, lanes, receipts, await readFences(sql), findings)
  const state = await readState(sql, teamId)
  checkState(model, state, output.state, findings)
  await checkWarehouse(warehouse, model, state, findings)
  const audited = await audit({ sql, log, warehouse })
  findings.expect(audited.exact, 'audit', () => JSON.stringify(audited.partitions))
  const isWhole = model.expected.size === captured
  findings.expect(isWhole, 'captured', () => `${model.expected.size} instead of ${captured}`)
  const sentences = [
    ...findings.sentences(),
    ...defects.slice(0, NAMED_DEFECTS_MAX).map((defect) => `${defects.length} defects, such as ${defect}`),
  ]
  if (sentences.length > 0) throw new Error(sentences.join('\n'))
  await mergeOnce(warehouse)
  const ended = (state: string) =>
    [...model.expected.values()].filter((expected) => expected.state === state).length
  return {
    records: model.expected.size,
    stored: ended('stored'),
    duplicates: ended('duplicate'),
    dropped: ended('dropped'),
    deadLettered: ended('dead_lettered'),
    persons: model.persons().length,
    receipts: receipts.length,
    restamped: output.events.filter(({ row }) => row._restamped).length,
    copies,
  }
}
