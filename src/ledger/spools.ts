/**
 * The spools of capture in the audit: what is in one was acknowledged and is not in the raw log yet, so no receipt
 * speaks of it. A finding is one that is not empty, and one whose holder was not heard of for a minute: nobody may be
 * draining it.
 */
import { listSpools, type RegisteredSpool, type Sql } from '../catalog/index.ts'

/** Capture tells of its spools every 5 s. */
const SILENT_S_MAX = 60

export const SPOOL_FINDINGS = {
  spool_damaged: 'It holds events that cannot be read; docs/runbooks/spool.md#damaged.',
  spool_silent: 'No capture process tells of it; docs/runbooks/spool.md#silent.',
  spool_not_empty: 'Its events are acknowledged and not in the raw log yet; docs/runbooks/spool.md.',
} as const
export type SpoolFindingKind = keyof typeof SPOOL_FINDINGS

export type SpoolAudit = RegisteredSpool & {
  /** Events in it. */
  held: number
  finding: SpoolFindingKind | undefined
}

/** Every registered spool, judged. Throws HR_STATE_UNAVAILABLE. */
export async function auditSpools(sql: Sql): Promise<SpoolAudit[]> {
  return (await listSpools(sql)).map(judgeSpool)
}

/** What is wrong with it first: a damaged one stays damaged, a silent one may be drained by nobody. */
export function judgeSpool(spool: RegisteredSpool): SpoolAudit {
  const held = spool.accepted - spool.drained
  let finding: SpoolFindingKind | undefined
  if (spool.state === 'damaged') finding = 'spool_damaged'
  else if (spool.silentS > SILENT_S_MAX) finding = 'spool_silent'
  else if (held > 0) finding = 'spool_not_empty'
  return { ...spool, held, finding }
}
