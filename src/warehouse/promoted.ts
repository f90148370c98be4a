/**
 * Promoted properties as text: which column a property of `events` gets, of which type, filled by which expression.
 * Pure. In: names and types. Out: names of columns and SQL.
 *
 * Must hold: two properties never share a column, a name cannot leave its quotes, and a column has for every row what
 * its expression says of `properties`, whether the row's part has the column yet or not.
 * Cost: all properties with a column share one expression, so that the JSON is parsed once per row for all of them:
 * a second expression costs 1.5 us per row of 1.3 kB.
 */
import { quoteName, quoteString } from './embedded/sql-text.ts'
import { warehouseError } from './errors.ts'

export const PROPERTY_TYPES = ['string', 'number', 'boolean', 'datetime'] as const
export type PropertyType = (typeof PROPERTY_TYPES)[number]
export type PromotedProperty = { readonly name: string; readonly type: PropertyType }

/** Columns of promoted properties begin so; no other column does. */
export const PROMOTED_PREFIX = 'p_'
const NAME_CHARACTERS_MAX = 100
const NAME = new RegExp(`^[A-Za-z0-9_$][A-Za-z0-9_$ .:/-]{0,${NAME_CHARACTERS_MAX - 1}}$`)
/** These have a column of their own name since the first version; they share the expression of the promoted ones. */
export const OWN_COLUMNS: readonly string[] = [
  '$group_0',
  '$group_1',
  '$group_2',
  '$group_3',
  '$group_4',
  '$session_id',
  '$window_id',
]

/** Throws HR_WAREHOUSE_PROPERTY with one sentence when `name` cannot have a column. */
export function checkPropertyName(name: string): void {
  if (OWN_COLUMNS.includes(name))
    throw warehouseError('HR_WAREHOUSE_PROPERTY', `${name} has a column already; it is called \`${name}\``)
  if (!NAME.test(name))
    throw warehouseError(
      'HR_WAREHOUSE_PROPERTY',
      `the property "${name}" cannot have a column: at most ${NAME_CHARACTERS_MAX} letters, digits, spaces and _ $ . : / - are allowed, and the first is a letter, digit, _ or $`,
    )
}

export function columnOfProperty(name: string): string {
  return `${PROMOTED_PREFIX}${name}`
}

const TYPES: Record<PropertyType, string> = {
  string: 'String',
  number: 'Nullable(Float64)',
  boolean: 'Nullable(Bool)',
  datetime: "Nullable(DateTime64(6, 'UTC'))",
}

/** ISO 8601 from the day on, or Unix time in seconds or milliseconds: what else might be a date is not guessed at. */
const DATE_TEXT = '^([0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{10}|[0-9]{13})$'

const VALUES: Record<PropertyType, (text: string) => string> = {
  string: (text) => text,
  number: (text) => `toFloat64OrNull(${text})`,
  boolean: (text) => `multiIf(lower(${text}) = 'true', true, lower(${text}) = 'false', false, NULL)`,
  datetime: (text) =>
    `if(match(${text}, ${quoteString(DATE_TEXT)}), parseDateTime64BestEffortOrNull(${text}, 6, 'UTC'), NULL)`,
}

/** Type, expression, codec and note of the column of `property`, when all promoted ones are `all` (it among them). */
export function columnDefinition(property: PromotedProperty, all: readonly PromotedProperty[]): string {
  return `${TYPES[property.type]} MATERIALIZED ${columnExpression(property, all)} COMMENT ${quoteString(note(property))} CODEC(ZSTD(1))`
}

/** The same of a column that has had its own name since the first version. */
export function ownExpression(name: string, all: readonly PromotedProperty[]): string {
  return columnExpression({ name, type: 'string' }, all)
}

export function columnExpression(property: PromotedProperty, all: readonly PromotedProperty[]): string {
  const names = [...new Set([...OWN_COLUMNS, ...all.map(({ name }) => name)])].sort()
  const tuple = `Tuple(${names.map((name) => `${quoteName(name)} String`).join(', ')})`
  const text = `tupleElement(JSONExtract(properties, ${quoteString(tuple)}), ${names.indexOf(property.name) + 1})`
  return VALUES[property.type](text)
}

/** What the column says about itself; the list of promoted properties is read from these. */
export function note({ name, type }: PromotedProperty): string {
  return `property ${type} ${name}`
}

/** The property that a column's note names; undefined when it is none of ours. */
export function propertyOfNote(text: string): PromotedProperty | undefined {
  const match = /^property (string|number|boolean|datetime) (.+)$/s.exec(text)
  return match ? { type: match[1] as PropertyType, name: match[2]! } : undefined
}
