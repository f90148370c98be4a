/** Deletions as text for a terminal, and as JSON for scripts. Pure. */
import type { CarriedOut } from './carry-out.ts'
import { ROW_TABLES } from './conditions.ts'
import type { Deletion } from './orders.ts'
import type { Preview } from './person.ts'
import type { ProjectPreview } from './project.ts'

export function previewText({ persons, distinctIds, rows }: Preview): string {
  const what = ROW_TABLES.filter((table) => rows[table]! > 0).map((table) => `${rows[table]} of ${table}`)
  if (persons === 0 && what.length === 0) return 'nothing is known of this person'
  return [
    `${persons} persons (merged ones count), ${distinctIds} distinct ids; rows: ${what.join(', ') || 'none'}.`,
    'They cannot be brought back. The raw log keeps its bytes for as long as its retention says (docs/guides/deletion.md).',
  ].join('\n')
}

export function projectPreviewText(name: string, { rows }: ProjectPreview): string {
  const what = Object.entries(rows)
    .filter(([, n]) => n > 0)
    .map(([table, n]) => `${n} of ${table}`)
  return [
    `project ${name} with all that it has; rows: ${what.join(', ') || 'none'}.`,
    'Its token will be refused. It cannot be brought back. The raw log keeps its bytes for as long as its retention says',
    '(docs/guides/deletion.md).',
  ].join('\n')
}

export function projectDoneText(name: string, { id, counts }: Deletion): string {
  return `project ${name} is deleted (${id}): ${rowsText(counts)}`
}

export function doneText(deletion: CarriedOut): string {
  const { id, counts, resumed, by, createdMs } = deletion
  if (tookNothing(deletion))
    return `nothing was known of this person (${id}); check the id: nothing was deleted`
  const done = `deleted (${id}): ${rowsText(counts)}`
  return resumed
    ? `${done}\nThis was the order that ${by} gave at ${timeOf(createdMs)}: what came after it stays. Give it again to delete that, too.`
    : done
}

/** Whoever ordered it should look: there was nothing, or an order was ended that does not know of what came since. */
export function isFinding(deletion: CarriedOut): boolean {
  return deletion.resumed || tookNothing(deletion)
}

function tookNothing({ counts }: Deletion): boolean {
  return (counts.persons ?? 0) === 0 && ROW_TABLES.every((table) => (counts[table] ?? 0) === 0)
}

/** Of an order that was cut off, in front of the question whether to go on with it. */
export function openText({ id, by, why, state, counts, createdMs }: Deletion): string {
  const said = why === '' ? '' : ` (${why})`
  return `a deletion is under way (${id}), ordered by ${by} at ${timeOf(createdMs)}${said}: ${state}; so far ${rowsText(counts)}`
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19)
}

function rowsText(counts: Deletion['counts']): string {
  const rows = ROW_TABLES.map((table) => `${counts[table] ?? 0} of ${table}`).join(', ')
  return `${counts.persons ?? 0} persons, ${counts.distinctIds ?? 0} distinct ids; rows: ${rows}`
}

/** Which person it is about is told only while it is open. */
export function deletionJson(deletion: Deletion, project: (teamId: number) => string | undefined): object {
  const { id, kind, subject, by, why, state, counts, createdMs, endedMs } = deletion
  return {
    id,
    kind,
    project: nameOf(deletion, project),
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
    rows: deletions.map((deletion) => {
      const { kind, state, counts, by, why, createdMs } = deletion
      return [timeOf(createdMs), nameOf(deletion, project), kind, state, String(counts.events ?? 0), by, why]
    }),
  }
}

/** A project that is gone has its name in the record only. */
function nameOf({ teamId, subject }: Deletion, project: (teamId: number) => string | undefined): string {
  return subject && 'project' in subject ? subject.project : (project(teamId) ?? String(teamId))
}
