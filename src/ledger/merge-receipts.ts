/**
 * Keeps Postgres small: receipts that are older than the log keeps records, and were found exact, are merged with their
 * neighbours of the same day. In: neighbouring receipts. Out: one with their range, sums and outcomes, so the audit and
 * the trace know what they knew; what goes are checksums, which only a replay asks for, and the place before each batch.
 *
 * What must hold: a merged receipt and those it replaces are never there together, nor neither (one transaction each), and
 * it says what they said then, not when they were chosen. It may stop anywhere and go on later.
 * Cost: a read and a write per receipt, once; at most 20,000 per raw partition and call.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { decodeRuns, encodeRuns } from '../event/index.ts'

/** Of a merged receipt: bounds what an audit, a trace or an amendment unpacks at once. */
const OFFSETS_MAX = 200_000
const OUTCOME_BYTES_MAX = 65_536
const PAGE_RECEIPTS = 1_000
const PAGES_MAX = 20

type Old = {
  from: number
  to: number
  day: string
  bytes: number
  config_version: number
  /** Its day ended long enough ago. */
  old: boolean
  /** It is not known to be in the log yet, or something in it does not add up: it stays as it is. */
  stays: boolean
}

type Member = {
  from_offset: number
  to_offset: number
  outcomes: Uint8Array
  stored: number
  duplicate: number
  dropped: number
  dead_lettered: number
  stored_rows: number
  hash_sum: string
  prev_offset: number | null
  prev_sub: number | null
  config_version: number
  created_at: Date
}

/** Merges receipts of days that ended `detailHours` ago; gives how many went. */
export async function mergeReceipts(sql: Sql, detailHours: number): Promise<number> {
  const lanes = await guardState(
    'read what was audited',
    () => sql<{ log_id: string; partition: number; merged_through: number; known: number }[]>`
    SELECT log_id, partition, merged_through, least(audited_through, rolled_through) AS known
    FROM audit_progress WHERE merged_through < least(audited_through, rolled_through)`,
  )
  let gone = 0
  for (const { log_id, partition, merged_through, known } of lanes) {
    let next = merged_through
    for (let page = 0; page < PAGES_MAX; page++) {
      const read = await readNext(sql, log_id, partition, next, known, detailHours)
      const young = read.findIndex((receipt) => !receipt.old)
      const old = young < 0 ? read : read.slice(0, young)
      for (const group of groupsOf(old)) {
        await guardState('merge receipts', () =>
          transaction(sql, async (tx) => {
            if (group.length > 1) gone += await replace(tx, log_id, partition, group)
            await tx`
              UPDATE audit_progress SET merged_through = ${group.at(-1)!.to}
              WHERE log_id = ${log_id} AND partition = ${partition}`
          }),
        )
        next = group.at(-1)!.to
      }
      if (young >= 0 || read.length < PAGE_RECEIPTS) break
    }
  }
  return gone
}

/**
 * The next that were audited. They are in order of time, so the first young one ends what there is to do: asked for by
 * their age, all young ones would be looked at each time.
 */
async function readNext(
  sql: Sql,
  logId: string,
  partition: number,
  from: number,
  to: number,
  detailHours: number,
): Promise<Old[]> {
  return guardState(
    'read old receipts',
    () => sql<Old[]>`
    SELECT r.*, outbox IS NOT NULL OR EXISTS (
        SELECT FROM audit_gap g WHERE g.log_id = ${logId} AND g.partition = ${partition}
          AND g.from_offset < r.to AND g.to_offset > r.from) AS stays
    FROM (
      SELECT from_offset AS from, to_offset AS to, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
        length(outcomes) AS bytes, config_version, outbox,
        created_at < date_trunc('day', (now() - ${detailHours} * interval '1 hour') AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS old
      FROM receipt
      WHERE log_id = ${logId} AND partition = ${partition} AND from_offset >= ${from} AND from_offset < ${to} AND to_offset <= ${to}
      ORDER BY from_offset LIMIT ${PAGE_RECEIPTS}
    ) r ORDER BY r.from`,
  )
}

/** Neighbours of one day, as many as one receipt may be of. */
function groupsOf(receipts: readonly Old[]): Old[][] {
  const groups: Old[][] = []
  let bytes = 0
  for (const receipt of receipts) {
    const group = groups.at(-1)
    const before = group?.at(-1)
    const fits =
      before?.to === receipt.from &&
      !before.stays &&
      !receipt.stays &&
      before.day === receipt.day &&
      before.config_version === receipt.config_version &&
      receipt.to - group![0]!.from <= OFFSETS_MAX &&
      bytes + receipt.bytes <= OUTCOME_BYTES_MAX
    if (fits) group!.push(receipt)
    else groups.push([receipt])
    bytes = fits ? bytes + receipt.bytes : receipt.bytes
  }
  return groups
}

async function replace(
  tx: Transaction,
  logId: string,
  partition: number,
  group: readonly Old[],
): Promise<number> {
  const from = group[0]!.from
  const to = group.at(-1)!.to
  const members = await tx<Member[]>`
    SELECT from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered, stored_rows,
      hash_sum::text AS hash_sum, prev_offset, prev_sub, config_version, created_at
    FROM receipt WHERE log_id = ${logId} AND partition = ${partition} AND from_offset >= ${from} AND from_offset < ${to}
    ORDER BY from_offset FOR UPDATE`
  // Somebody changed them since they were chosen: they stay as they are.
  const isSame = members.every(({ from_offset, to_offset }, i) => {
    const chosen = group[i]
    return chosen?.from === from_offset && chosen.to === to_offset
  })
  if (!isSame || members.length !== group.length) return 0
  const sum = (of: (member: Member) => number) => members.reduce((total, member) => total + of(member), 0)
  const [first, last] = [members[0]!, members.at(-1)!]
  const outcomes = encodeRuns(members.flatMap((member) => decodeRuns(member.outcomes)))
  const hashSum = members.reduce((total, { hash_sum }) => total + BigInt(hash_sum), 0n)
  await tx`
    DELETE FROM receipt WHERE log_id = ${logId} AND partition = ${partition}
      AND from_offset > ${from} AND from_offset < ${to}`
  await tx`
    UPDATE receipt SET to_offset = ${to}, checksum = 0, outcomes = ${outcomes}, stored = ${sum((m) => m.stored)},
      duplicate = ${sum((m) => m.duplicate)}, dropped = ${sum((m) => m.dropped)},
      dead_lettered = ${sum((m) => m.dead_lettered)}, stored_rows = ${sum((m) => m.stored_rows)},
      hash_sum = ${String(hashSum)}::numeric, counts = NULL, created_at = ${last.created_at}
    WHERE log_id = ${logId} AND partition = ${partition} AND from_offset = ${first.from_offset}`
  return members.length - 1
}
