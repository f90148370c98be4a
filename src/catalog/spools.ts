/**
 * The register of capture's spools: who holds acknowledged events that are not in the log yet. A spool is the truth
 * about itself; this is what its holder said of it last, so that an audit sees it from any machine.
 */
import { guardState, type Sql } from './postgres.ts'

export const SPOOL_STATES = ['direct', 'spooling', 'draining', 'damaged'] as const
/**
 * `direct`: empty, events go straight to the log · `spooling`: the log is out of reach · `draining`: on its way into
 * the log · `damaged`: holds records that cannot be read, and waits for a human.
 */
export type SpoolState = (typeof SPOOL_STATES)[number]

export type SpoolReport = {
  id: string
  host: string
  folder: string
  /** The spool's end: records that it ever took. */
  accepted: number
  /** Those of them that are in the log. */
  drained: number
  /** On its disk. */
  bytes: number
  state: SpoolState
}

export type RegisteredSpool = SpoolReport & {
  /** Since its holder last told of it. */
  silentS: number
}

/** Writes what their holder says of `reports` now. Throws HR_STATE_UNAVAILABLE. */
export async function reportSpools(sql: Sql, reports: readonly SpoolReport[]): Promise<void> {
  await guardState(
    'registering the spools',
    () => sql`
      INSERT INTO spool (id, host, folder, accepted, drained, bytes, state)
      SELECT id, host, folder, accepted, drained, bytes, state
      FROM jsonb_to_recordset(${JSON.stringify(reports)}::text::jsonb)
        AS r(id uuid, host text, folder text, accepted bigint, drained bigint, bytes bigint, state text)
      ON CONFLICT (id) DO UPDATE SET host = excluded.host, folder = excluded.folder, accepted = excluded.accepted,
        drained = excluded.drained, bytes = excluded.bytes, state = excluded.state, heard_at = now()`,
  )
}

/** Takes spools off the register that were drained and are about to be removed. Throws HR_STATE_UNAVAILABLE. */
export async function forgetSpools(sql: Sql, ids: readonly string[]): Promise<void> {
  await guardState(
    'forgetting spools',
    () => sql`
      DELETE FROM spool
      WHERE id IN (SELECT jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb)::uuid)`,
  )
}

/** All of them, by host and folder. Throws HR_STATE_UNAVAILABLE. */
export async function listSpools(sql: Sql): Promise<RegisteredSpool[]> {
  const rows = await guardState(
    'listing the spools',
    () => sql<(SpoolReport & { silent_s: number })[]>`
      SELECT id, host, folder, accepted, drained, bytes, state,
        greatest(0, extract(epoch FROM now() - heard_at))::float8 AS silent_s
      FROM spool ORDER BY host, folder`,
  )
  return rows.map(({ silent_s: silentS, ...report }) => ({ ...report, silentS }))
}
