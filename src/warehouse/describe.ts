/**
 * What the SQL files make, without asking an engine: tables and views with their columns, for the reference. In: the
 * migration files. Out: plain data. A test compares all of it with what the real engine says, so that what is read
 * here from text is what is there.
 */
import type { MigrationFile } from './ddl.ts'
import { renderDdl } from './ddl.ts'
import { propertyOfNote } from './promoted.ts'

export type DescribedColumn = {
  name: string
  type: string
  /** How ClickHouse fills it; undefined for what is sent (or NULL when it is not). */
  filled: 'DEFAULT' | 'MATERIALIZED' | undefined
  /** The property that it holds, when it is one of those that are promoted from the start. */
  property: string | undefined
}

export type DescribedTable = {
  name: string
  engine: string
  partitionBy: string | undefined
  orderBy: string
  columns: DescribedColumn[]
}

export type DescribedView = { name: string; columns: string[] }

const COLUMN = /^`([^`]+)` (.+?)(?: (DEFAULT|MATERIALIZED) .+?)?(?: COMMENT '([^']*)')? CODEC\(/
const TABLE =
  /^CREATE TABLE IF NOT EXISTS (\w+)\n\(\n([\s\S]*?)\n\)\nENGINE = (.+)\n(?:PARTITION BY (.+)\n)?ORDER BY (.+)\n/
const ADDED = /^ALTER TABLE (\w+) ADD COLUMN IF NOT EXISTS (.+)$/
const VIEW = /^CREATE OR REPLACE VIEW (\w+) AS\nSELECT\n([\s\S]*?)\nFROM (\w+)/

export function describeSchema(files: readonly MigrationFile[]): {
  tables: DescribedTable[]
  views: DescribedView[]
} {
  const tables = new Map<string, DescribedTable>()
  const views = new Map<string, DescribedView>()
  const promoted = () =>
    tables.get('events')?.columns.flatMap(({ name, property }) => (property ? [name] : [])) ?? []
  for (const file of files)
    for (const statement of renderDdl(file, 'single', promoted())) {
      const table = TABLE.exec(statement)
      const added = ADDED.exec(statement)
      const view = VIEW.exec(statement)
      if (table) {
        const [, name, body, engine, partitionBy, orderBy] = table
        const columns = body!.split('\n').flatMap((line) => columnOf(line.trim()))
        tables.set(name!, { name: name!, engine: engine!, partitionBy, orderBy: orderBy!, columns })
      } else if (added) tables.get(added[1]!)!.columns.push(...columnOf(added[2]!))
      else if (view) views.set(view[1]!, { name: view[1]!, columns: viewColumns(view[2]!, view[3]!, views) })
    }
  return { tables: [...tables.values()], views: [...views.values()] }
}

/** The column that a line of a definition makes; none for an index or a projection. */
function columnOf(line: string): DescribedColumn[] {
  const match = COLUMN.exec(line)
  if (!match) return []
  const [, name, type, filled, comment] = match
  const property = propertyOfNote(comment ?? '')?.name
  return [{ name: name!, type: type!, filled: filled as DescribedColumn['filled'], property }]
}

function viewColumns(body: string, from: string, views: ReadonlyMap<string, DescribedView>): string[] {
  return body.split(',\n').flatMap((item) => {
    const text = item.trim()
    if (text.endsWith('.*')) return views.get(from)!.columns
    return [/(?:^| AS )`?([^`\s]+)`?$/.exec(text)![1]!]
  })
}
