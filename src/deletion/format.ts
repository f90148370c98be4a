/** Deletions as text for a terminal, and as JSON for scripts. Pure. */
import { ROW_TABLES } from './conditions.ts'
import type { Preview } from './delete-person.ts'
import type { Deletion } from './orders.ts'

export function previewText({ persons, distinctIds, rows }: Preview): string {
  const what = ROW_TABLES.filter((table) => rows[table]! > 0).map((table) => `${rows[table]} of ${table}`)
  if (persons === 0 && what.length === 0) return 'nothing is known of this person'
  return [
    `${persons} persons (merged ones count), ${distinctIds} distinct ids; rows: ${what.join(', ') || 'none'}.`,
    'They cannot be brought back. The raw log keeps its bytes for as long as its retention says (docs/guides/deletion.md).',
  ].join('\n')
}

export function doneText({ id, counts }: Deletion): string {
  const rows = ROW_TABLES.map((table) => `${counts[table] ?? 0} of ${table}`).join(', ')
  return `deleted (${id}): ${counts.persons ?? 0} persons, ${counts.distinctIds ?? 0} distinct ids; rows: ${rows}`
}

/** Whom it is about is told only while it is open. */
export function deletionJson(deletion: Deletion, project: (teamId: number) => string | undefined): object {
  const { id, kind, teamId, subject, by, why, state, counts, createdMs, endedMs } = deletion
  return {
    id,
    kind,
    project: project(teamId) ?? teamId,
    ...(subject && { subject }),
    by,
    why,
    state,
    counts,
    created_at: new Date(createdMs).toISOString(),
    ...(endedMs !== undefined && { ended_at: new Date(endedMs).toISOString() }),
  }
}

export function deletionTable(
  deletions: readonly Deletion[],
  project: (teamId: number) => string | undefined,
): { head: string[]; rows: string[][] } {
  return {
    head: ['ORDERED', 'PROJECT', 'WHAT', 'STATE', 'EVENTS', 'BY', 'WHY'],
    rows: deletions.map(({ teamId, kind, state, counts, by, why, createdMs }) => [
      new Date(createdMs).toISOString().slice(0, 19),
      project(teamId) ?? String(teamId),
      kind,
      state,
      String(counts.events ?? 0),
      by,
      why,
    ]),
  }
}
