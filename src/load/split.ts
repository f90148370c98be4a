/**
 * An intent goes on as child intents: because a row of it is refused, or because it is too large for ClickHouse's memory.
 * In: a held intent and its rows. Out: children in Postgres, in the locking transaction, each record in exactly one open
 * intent before and after. Why children may be sent at all: see `deliver.ts`.
 */
import type { Transaction } from '../catalog/index.ts'
import type { Logger } from '../observe/index.ts'
import { type Batch, halveBatch, intentOf, piecesOf, takeHeads } from './batch.ts'
import type { Hold } from './hold-intent.ts'
import { type Intent, keepPart, replaceByChildren } from './intent.ts'
import { BYTES_MIN, type Pace } from './pace.ts'

type Deps = { logger: Logger; pace: Pace; reached: (step: 'split') => Promise<void> | void }

/**
 * Two children with half of the rows each. Rows of months that are there go with them, along the ranges: who has a child asks
 * first, and sends none of these. To leave them out could take as many ranges as there are rows.
 */
export async function halve(deps: Deps, hold: Hold, batch: Batch, why: string): Promise<void> {
  const { id } = hold.intent
  const children = childrenOf(id, halveBatch(batch))
  await write(deps, hold, batch, (tx) => replaceByChildren(tx, id, children), {
    docs: 'docs/runbooks/load.md#refused-rows',
    why: `ClickHouse refuses an insert of ${batch.rows.length} rows; it is halved to find the row: ${why}`,
  })
}

/** The intent keeps the first row of each month, children get the others; false when it is small, or there are no others. */
export async function cutUp(deps: Deps, hold: Hold, batch: Batch): Promise<boolean> {
  if (batch.bytes <= BYTES_MIN) return false
  const { heads, others } = takeHeads(batch)
  if (others.rows.length === 0) return false
  const { id, parent } = hold.intent
  // After some refusals that is an eighth of it, so that its pieces need not be cut again.
  const bytesMax = Math.max(BYTES_MIN, Math.min(deps.pace.bytesMax, batch.bytes / 2))
  const children = childrenOf(id, piecesOf(others, bytesMax))
  await write(deps, hold, batch, (tx) => keepPart(tx, intentOf(heads, id, parent), children), {
    docs: 'docs/runbooks/load.md#no-memory',
    why: `ClickHouse has no memory for ${batch.rows.length} rows at once; they are sent in pieces`,
  })
  return true
}

function childrenOf(id: string, parts: readonly Batch[]): Intent[] {
  return parts.map((part) => intentOf(part, Bun.randomUUIDv7(), id))
}

async function write(
  deps: Deps,
  hold: Hold,
  { table, rows }: Batch,
  children: (tx: Transaction) => Promise<void>,
  { why, docs }: { why: string; docs: string },
): Promise<void> {
  deps.logger.warn({ table, intent: hold.intent.id, rows: rows.length, docs }, why)
  await hold.write(children)
  await deps.reached('split')
}
