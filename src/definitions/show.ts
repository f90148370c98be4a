/** The definitions of a project, as they are known now. In: a project, perhaps an event. Out: data, and tables of it. */
import { guardState, type Sql } from '../catalog/index.ts'
import { printable } from '../event/index.ts'
import type { PropertyKind, PropertyType } from './types.ts'

export type EventDefinition = {
  event: string
  volume: number
  firstSeen: Date
  lastSeen: Date
  properties: number
}
export type PropertyDefinition = {
  kind: PropertyKind
  /** Event name, or name of the group type; empty for a person, and for flags of all events. */
  of: string
  name: string
  types: Partial<Record<PropertyType, number>>
  /** More than one type, not counting null. */
  conflict: boolean
  volume: number
  firstSeen: Date
  lastSeen: Date
}
export type Schema = {
  events: EventDefinition[]
  properties: PropertyDefinition[]
  /** How often there were names beyond the limits of the project. */
  beyond: { events: number; properties: number }
}

/** Most frequent first. With `event`: that event and its own properties only. */
export async function readSchema(sql: Sql, teamId: number, event?: string): Promise<Schema> {
  const one = event ?? null
  return guardState('read definitions', async () => {
    const events = await sql<
      { event: string; volume: number; first_seen: Date; last_seen: Date; properties: number }[]
    >`
      SELECT e.event, e.volume, e.first_seen, e.last_seen, (SELECT count(*)::int FROM property_definition p
        WHERE p.team_id = e.team_id AND p.kind = 'event' AND p.owner = e.event) AS properties
      FROM event_definition e WHERE e.team_id = ${teamId} AND (${one}::text IS NULL OR e.event = ${one}::text)
      ORDER BY e.volume DESC, e.event`
    const properties = await sql<
      (Omit<PropertyDefinition, 'firstSeen' | 'lastSeen' | 'conflict'> & {
        first_seen: Date
        last_seen: Date
      })[]
    >`
      SELECT p.kind, CASE p.kind WHEN 'group' THEN coalesce(g.group_type, p.owner) ELSE p.owner END AS of, p.name, p.types,
        p.volume, p.first_seen, p.last_seen
      FROM property_definition p
      LEFT JOIN group_type g ON p.kind = 'group' AND g.team_id = p.team_id AND g.type_index::text = p.owner
      WHERE p.team_id = ${teamId} AND (${one}::text IS NULL OR (p.kind = 'event' AND p.owner = ${one}::text))
      ORDER BY p.volume DESC, p.kind, p.owner, p.name`
    const [beyond] = await sql<{ events: number; properties: number }[]>`
      SELECT events_beyond AS events, properties_beyond AS properties FROM definition_count WHERE team_id = ${teamId}`
    return {
      events: events.map(({ first_seen, last_seen, ...rest }) => ({
        ...rest,
        firstSeen: first_seen,
        lastSeen: last_seen,
      })),
      properties: properties.map(({ first_seen, last_seen, ...rest }) => ({
        ...rest,
        conflict: isConflict(rest.types),
        firstSeen: first_seen,
        lastSeen: last_seen,
      })),
      beyond: beyond ?? { events: 0, properties: 0 },
    }
  })
}

function isConflict(types: PropertyDefinition['types']): boolean {
  return Object.keys(types).filter((type) => type !== 'null').length > 1
}

export type Table = { title: string; head: string[]; rows: string[][] }

/** Names up to 60 characters; `rowsMax` of each table. */
export function schemaTables(schema: Schema, rowsMax: number): Table[] {
  const of = (kind: PropertyKind) => schema.properties.filter((one) => one.kind === kind).slice(0, rowsMax)
  const properties = (kind: PropertyKind, owner: string): Table => ({
    title: `${kind} properties`,
    head: ['VOLUME', ...(owner ? [owner] : []), 'PROPERTY', 'TYPES', 'FIRST SEEN', 'LAST SEEN'],
    rows: of(kind).map((one) => [
      String(one.volume),
      ...(owner ? [name(one.of) || '(any)'] : []),
      name(one.name),
      typesText(one),
      ...times(one),
    ]),
  })
  const events: Table = {
    title: 'events',
    head: ['VOLUME', 'EVENT', 'PROPERTIES', 'FIRST SEEN', 'LAST SEEN'],
    rows: schema.events
      .slice(0, rowsMax)
      .map((one) => [String(one.volume), name(one.event), String(one.properties), ...times(one)]),
  }
  return [
    events,
    properties('event', 'EVENT'),
    properties('person', ''),
    properties('group', 'GROUP TYPE'),
  ].filter(({ rows }) => rows.length > 0)
}

function typesText({ types, conflict }: PropertyDefinition): string {
  const sorted = Object.entries(types).sort(([, a], [, b]) => b - a)
  const shown = sorted.length === 1 ? [sorted[0]![0]] : sorted.map(([type, count]) => `${type} ${count}`)
  return `${shown.join(', ')}${conflict ? ' (conflict)' : ''}`
}

function times({ firstSeen, lastSeen }: { firstSeen: Date; lastSeen: Date }): string[] {
  return [firstSeen.toISOString(), lastSeen.toISOString()]
}

function name(text: string): string {
  return printable(text.slice(0, 60))
}
