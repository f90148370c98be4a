/**
 * What ingest made of an event: its raw record against its row. Pure. The steps keep no diary per event (it would cost more
 * than the steps), so the difference is found when somebody asks.
 */
import type { RawHeader } from '../event/index.ts'

type Row = { event: string; distinct_id: string; timestamp_ms: number; properties: string }

/** Names in each list; further ones are counted. */
const NAMES_MAX = 20

/** By field what is different; empty when nothing is, undefined when the raw record cannot be read. */
export function changesOf(
  header: RawHeader,
  value: Uint8Array,
  row: Row,
): Record<string, string> | undefined {
  let sent: Record<string, unknown>
  let stored: Record<string, unknown>
  try {
    const body = JSON.parse(Buffer.from(value).toString('utf8'))
    sent = objectOr(body.properties)
    // They may stand beside the properties, too; in the row they are always among them.
    for (const name of ['$set', '$set_once', '$unset']) {
      if (body[name] !== undefined && sent[name] === undefined) sent = { ...sent, [name]: body[name] }
    }
    stored = objectOr(JSON.parse(row.properties))
  } catch {
    return undefined
  }
  const changes: Record<string, string> = {}
  if (row.event !== header.event)
    changes.event = header.event.startsWith(row.event) ? 'cut' : `was ${header.event}`
  if (row.distinct_id !== header.distinctId) changes.distinct_id = `was ${header.distinctId}`
  const added = Object.keys(stored).filter((name) => !Object.hasOwn(sent, name))
  const removed = Object.keys(sent).filter((name) => !Object.hasOwn(stored, name))
  const changed = Object.keys(sent).filter(
    (name) => Object.hasOwn(stored, name) && !Bun.deepEquals(sent[name], stored[name]),
  )
  if (added.length > 0) changes.properties_added = names(added)
  if (removed.length > 0) changes.properties_removed = names(removed)
  if (changed.length > 0) changes.properties_changed = names(changed)
  return changes
}

function objectOr(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}
}

function names(list: readonly string[]): string {
  const shown = [...list].sort().slice(0, NAMES_MAX)
  const more = list.length > shown.length ? ` and ${list.length - shown.length} more` : ''
  return `${shown.join(', ')}${more}`
}
