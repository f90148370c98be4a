/**
 * Dead letters of a person that somebody ordered to send again: they must not come back as events of somebody new. In: the
 * letters of its distinct ids. Out: those that wait are discarded; one that is being sent is waited for, since it is
 * then an event in the raw log like any other.
 *
 * The runner that has the job loses its lease in the same transaction: it may have read the letter before, and marks
 * what it sends under that lease first.
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import { type SettleDeps, until } from '../repair/index.ts'
import { textLiteral, type Warehouse } from '../warehouse/index.ts'
import { chunksOf, type Targets } from './conditions.ts'
import type { Order } from './orders.ts'

/** Letters of one question to ClickHouse and one statement. */
const PAGE_LETTERS = 5_000

type LetterKey = { l: string; p: number; o: number; u: number; e: string }

/** Each look may ask ClickHouse; a letter is sent in a second at most. */
const LOOK_MS = 500

/** Cancels again until none is being sent. Throws HR_REPAIR_WAITS. */
export async function untilUnsent(
  { says }: Pick<SettleDeps, 'says'>,
  cancel: () => Promise<number>,
  waitMs: number,
): Promise<void> {
  const waitsFor = async () => {
    const sending = await cancel()
    return sending === 0 ? undefined : `${sending} dead letters of what is deleted are being sent again`
  }
  await until(performance.now() + waitMs, says, waitsFor, LOOK_MS)
}

/** Gives how many are being sent right now. */
export async function cancelReplays(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  targets: Targets,
  { teamId, by }: Pick<Order, 'teamId' | 'by'>,
): Promise<number> {
  const [open] = await guardState(
    'look for replays',
    () =>
      sql`SELECT FROM dead_letter_decision WHERE state IN ('planned', 'sending') AND team_id = ${teamId} LIMIT 1`,
  )
  if (!open) return 0
  let sending = 0
  for (const { ids } of chunksOf({ persons: [], ids: targets.ids })) {
    const among = ids.map(({ distinctId }) => textLiteral(distinctId)).join()
    for (let after = ''; ; ) {
      const page = await warehouse.query<LetterKey & { key: string }>(
        `SELECT DISTINCT _log_id AS l, _partition AS p, _offset AS o, _sub AS u, step AS e,
           toString(tuple(l, p, o, u, e)) AS key
         FROM dead_letters WHERE team_id = ${teamId} AND distinct_id IN (${among}) AND key > {after:String}
         ORDER BY key LIMIT ${PAGE_LETTERS}`,
        { after },
      )
      sending += await cancelPage(sql, page, by)
      if (page.length < PAGE_LETTERS) break
      after = page.at(-1)!.key
    }
  }
  return sending
}

/** Those of a whole project. Gives how many are being sent right now. */
export async function cancelProjectReplays(sql: Sql, teamId: number, by: string): Promise<number> {
  return guardState('cancel replays', () =>
    transaction(sql, async (tx) => {
      await tx`
        UPDATE dead_letter_job SET runner = NULL WHERE state = 'open' AND id IN (
          SELECT job_id FROM dead_letter_decision WHERE state = 'planned' AND team_id = ${teamId})`
      await tx`
        UPDATE dead_letter_decision
        SET state = 'discarded', decided_by = ${by}, why = 'its project was deleted', decided_at = now(),
          changed_at = now(), job_id = NULL, detail = ''
        WHERE state = 'planned' AND team_id = ${teamId}`
      const [left] = await tx<{ sending: number }[]>`
        SELECT count(*)::int AS sending FROM dead_letter_decision WHERE state = 'sending' AND team_id = ${teamId}`
      return left!.sending
    }),
  )
}

async function cancelPage(sql: Sql, letters: readonly LetterKey[], by: string): Promise<number> {
  if (letters.length === 0) return 0
  const keys = JSON.stringify(letters.map(({ l, p, o, u, e }) => ({ l, p, o, u, e })))
  return guardState('cancel replays', () =>
    transaction(sql, async (tx) => {
      await tx`
        UPDATE dead_letter_job SET runner = NULL WHERE state = 'open' AND id IN (
          SELECT d.job_id FROM jsonb_to_recordset(${keys}::text::jsonb) AS k(l uuid, p int, o bigint, u int, e text)
          JOIN dead_letter_decision d ON d.log_id = k.l AND d.partition = k.p AND d.raw_offset = k.o AND d.sub = k.u
            AND d.step = k.e
          WHERE d.state = 'planned')`
      await tx`
        UPDATE dead_letter_decision d
        SET state = 'discarded', decided_by = ${by}, why = 'its person was deleted', decided_at = now(), changed_at = now(),
          job_id = NULL, detail = ''
        FROM jsonb_to_recordset(${keys}::text::jsonb) AS k(l uuid, p int, o bigint, u int, e text)
        WHERE d.log_id = k.l AND d.partition = k.p AND d.raw_offset = k.o AND d.sub = k.u AND d.step = k.e
          AND d.state = 'planned'`
      const [left] = await tx<{ sending: number }[]>`
        SELECT count(*)::int AS sending
        FROM jsonb_to_recordset(${keys}::text::jsonb) AS k(l uuid, p int, o bigint, u int, e text)
        JOIN dead_letter_decision d ON d.log_id = k.l AND d.partition = k.p AND d.raw_offset = k.o AND d.sub = k.u
          AND d.step = k.e
        WHERE d.state = 'sending'`
      return left!.sending
    }),
  )
}
