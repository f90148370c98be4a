/**
 * Which properties of `events` have a column, and how far each is stored. In: what ClickHouse says of its columns and
 * parts; nothing else remembers it. Out: properties, names of columns, rows with and without.
 */
import type { Warehouse } from './client.ts'
import { insertTarget } from './ddl.ts'
import { columnOfProperty, PROMOTED_PREFIX, type PromotedProperty, propertyOfNote } from './promoted.ts'
import { systemTable } from './replicas.ts'

export type PropertyColumn = PromotedProperty & {
  column: string
  /** Rows of parts that have the column, and of all parts; on a cluster over all replicas. */
  rowsFilled: number
  rows: number
}

type LiveColumn = { name: string; comment: string; default_expression: string }

/** The promoted properties, by name, and how far each is filled. */
export async function listProperties(warehouse: Warehouse): Promise<PropertyColumn[]> {
  const columns: PropertyColumn[] = []
  for (const property of (await readColumns(warehouse)).properties) {
    const column = columnOfProperty(property.name)
    const months = await fillState(warehouse, column)
    columns.push({
      ...property,
      column,
      rowsFilled: sum(months.map((month) => month.rows_filled)),
      rows: sum(months.map((month) => month.rows)),
    })
  }
  return columns
}

/** Names of the columns of promoted properties, sorted; empty when there is no `events` yet. */
export async function promotedColumns(warehouse: Warehouse): Promise<string[]> {
  return (await readColumns(warehouse)).properties.map(({ name }) => columnOfProperty(name))
}

/** The promoted properties, by name of their columns, and the expression of each column. */
export async function readColumns(
  warehouse: Warehouse,
  table = insertTarget('events', warehouse.variant, true),
): Promise<{ properties: PromotedProperty[]; expressions: Map<string, string> }> {
  const columns = await warehouse.query<LiveColumn>(
    `SELECT name, comment, default_expression FROM system.columns
     WHERE database = currentDatabase() AND table = {table:String} AND (startsWith(name, {prefix:String}) OR default_kind = 'MATERIALIZED') ORDER BY name`,
    { table, prefix: PROMOTED_PREFIX },
  )
  const ours = columns.filter(({ comment }) => propertyOfNote(comment))
  return {
    properties: ours.map(({ comment }) => propertyOfNote(comment)!),
    expressions: new Map(columns.map(({ name, default_expression }) => [name, default_expression])),
  }
}

export type MonthState = { month: string; rows_filled: number; rows: number }

/** Rows of each month in parts with the column and in all parts, newest month first. */
export async function fillState(warehouse: Warehouse, column: string, month = ''): Promise<MonthState[]> {
  return await warehouse.query<MonthState>(
    `SELECT month, sum(part_rows * filled) AS rows_filled, sum(part_rows) AS rows FROM (
       SELECT hostName() AS host, partition_id AS month, name, any(rows) AS part_rows, max(column = {column:String}) AS filled
       FROM ${systemTable(warehouse, 'parts_columns')}
       WHERE active AND database = currentDatabase() AND table = {table:String} AND (partition_id = {month:String} OR {month:String} = '')
       GROUP BY host, month, name)
     GROUP BY month ORDER BY month DESC`,
    { column, month, table: insertTarget('events', warehouse.variant, true) },
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
