/**
 * The reference of what is in ClickHouse. In: the columns that we send (src/event/tables.ts, with what they mean) and
 * what the SQL files make. Out: lines of Markdown. A column or a view that nobody has described here is refused.
 */
import { TABLE_OF_TOPIC, type Table } from '../src/event/index.ts'
import { type DescribedTable, describeSchema, migrationFiles } from '../src/warehouse/index.ts'

type MakeTable = (head: string[], rows: string[][]) => string[]

/** Columns that ClickHouse fills itself. */
const FILLED: Record<string, string> = {
  inserted_at: 'When ClickHouse took it.',
  _timestamp: 'When it was received; of a row of a state or an account, when ClickHouse took it. In seconds.',
  last_seen_at: 'Not filled yet.',
}
const VIEWS: Record<string, string> = {
  persons_current: 'Persons as they are now, without those deleted or merged into others.',
  groups_current: 'Groups as they are now.',
  events_resolved:
    'Events under the person that they belong to now, with properties of person and groups as they were at the time.',
  events_current: 'The same with what person and groups are now; several joins more.',
}
/** Columns of views that no table has, or that mean something else there. */
const VIEW_COLUMNS: Record<string, string> = {
  'events_resolved.person_id': 'The person that the distinct_id belongs to now.',
  'events_current.person_id': 'The person that the distinct_id belongs to now.',
  event_person_id: 'The person at the time the event took effect.',
  current_person_properties: 'Properties of the person now, as JSON; empty when there is none.',
  current_person_created_at: 'When that person was first seen.',
  current_group0_properties: 'Properties of the group of type 0 now, as JSON; empty when there is none.',
  current_group1_properties: 'As above, type 1.',
  current_group2_properties: 'As above, type 2.',
  current_group3_properties: 'As above, type 3.',
  current_group4_properties: 'As above, type 4.',
  version: 'Rises with every change; the highest wins.',
}

export function tablesReference(table: MakeTable): string[] {
  const { tables, views } = describeSchema(migrationFiles())
  const sent: readonly Table[] = Object.values(TABLE_OF_TOPIC)
  const meanings = new Map<string, string>()
  const sections = tables.flatMap((one) => {
    const docs = new Map(
      sent.find(({ name }) => name === one.name)?.columns.map(({ name, doc }) => [name, doc]),
    )
    const rows = one.columns.map(({ name, type, filled, property }) => {
      const meaning = docs.get(name) ?? ownMeaning(one.name, name, property)
      if (one.name === 'events') meanings.set(name, meaning)
      else meanings.set(`${one.name}.${name}`, meaning)
      return [
        `\`${name}\``,
        `\`${type}\``,
        filled === 'MATERIALIZED' ? `${meaning} Not in \`SELECT *\`.` : meaning,
      ]
    })
    return [`## ${one.name}`, '', ...stored(one), '', ...table(['Column', 'Type', 'Meaning'], rows), '']
  })
  const viewSections = views.flatMap(({ name, columns }) => {
    const base = { persons_current: 'person', groups_current: 'groups' }[name]
    const rows = columns.map((column) => {
      const meaning =
        VIEW_COLUMNS[`${name}.${column}`] ??
        (base === undefined ? meanings.get(column) : meanings.get(`${base}.${column}`)) ??
        VIEW_COLUMNS[column]
      if (meaning === undefined) throw new Error(`nobody says what ${column} of the view ${name} means`)
      return [`\`${column}\``, meaning]
    })
    if (!VIEWS[name]) throw new Error(`nobody says what the view ${name} is`)
    return [`## ${name}`, '', VIEWS[name], '', ...table(['Column', 'Meaning'], rows), '']
  })
  return [
    'In ClickHouse. Names are those of PostHog where it has the column, too; our own begin with `_`, or with `p_` when they hold a property. Most questions are for the views at the end: [asking questions](../guides/querying.md).',
    '',
    ...sections,
    ...viewSections,
  ]
}

function ownMeaning(table: string, column: string, property: string | undefined): string {
  if (property !== undefined) return `The property \`${property}\`, as text.`
  if (column.startsWith('$')) return 'The property of this name, as text.'
  const meaning = FILLED[column]
  if (meaning === undefined) throw new Error(`nobody says what ${column} of ${table} means`)
  return meaning
}

function stored({ engine, partitionBy, orderBy }: DescribedTable): string[] {
  const partitions = partitionBy === undefined ? 'not partitioned' : `partitioned by \`${partitionBy}\``
  return [`\`${engine}\`, ${partitions}, ordered by \`${orderBy}\`.`]
}
