/**
 * Which events a destination wants. In: a filter as data, checked once. Out: a predicate, and the names by which it can
 * be found without asking it. Names and operators are those of PostHog's property filters, so a filter can be moved over.
 *
 *   { "events": ["order paid"], "where": [{ "key": "amount", "is": "gt", "value": 10 },
 *                                         { "on": "person", "key": "plan", "is": "exact", "value": ["pro", "team"] }] }
 *
 * All conditions must hold; a list as value means any of them. A key is a property's name; when there is none of that name
 * it is a path with dots (`cart.items.0.sku`). Must hold: bounded (no expression of a user runs, no regular expression),
 * and it never throws. Cost: 100 destinations that name other events, nothing; a condition about 0.1 µs once the
 * properties are parsed.
 */
import { deliverError } from './errors.ts'
import type { EventView } from './event-view.ts'

export const OPERATORS = [
  'exact',
  'is_not',
  'icontains',
  'not_icontains',
  'gt',
  'gte',
  'lt',
  'lte',
  'is_set',
  'is_not_set',
] as const
export type Operator = (typeof OPERATORS)[number]

export type Condition = {
  /** Properties of the event (default) or of its person. */
  on?: 'event' | 'person'
  key: string
  is: Operator
  value?: Scalar | Scalar[]
}
type Scalar = string | number | boolean | null

export type Filter = {
  /** Absent: all. */
  events?: string[]
  where?: Condition[]
}

const EVENTS_MAX = 1_000
const CONDITIONS_MAX = 100
const VALUES_MAX = 1_000

/** Throws HR_DESTINATION_INVALID. */
export function readFilter(input: unknown): Filter {
  if (input === undefined || input === null) return {}
  const { events, where, ...rest } = object(input, 'filter')
  refuseRest(rest, 'filter')
  const filter: Filter = {}
  if (events !== undefined) {
    if (!Array.isArray(events) || events.length === 0 || events.length > EVENTS_MAX || !events.every(isText))
      throw invalid(`filter.events must be a list of 1 to ${EVENTS_MAX} event names`)
    filter.events = events
  }
  if (where !== undefined) {
    if (!Array.isArray(where) || where.length > CONDITIONS_MAX)
      throw invalid(`filter.where must be a list of at most ${CONDITIONS_MAX} conditions`)
    filter.where = where.map(readCondition)
  }
  return filter
}

function readCondition(input: unknown, index: number): Condition {
  const name = `filter.where[${index}]`
  const { on, key, is, value, ...rest } = object(input, name)
  refuseRest(rest, name)
  if (on !== undefined && on !== 'event' && on !== 'person')
    throw invalid(`${name}.on must be event or person`)
  if (!isText(key) || key === '') throw invalid(`${name}.key must be the name of a property`)
  const operator = OPERATORS.find((known) => known === is)
  if (!operator)
    throw invalid(`${name}.is is ${JSON.stringify(is)}; allowed is one of ${OPERATORS.join(', ')}`)
  const condition: Condition = { key, is: operator, ...(on === undefined ? {} : { on }) }
  if (operator === 'is_set' || operator === 'is_not_set') return condition
  const values = Array.isArray(value) ? value : [value]
  if (values.length === 0 || values.length > VALUES_MAX || !values.every(isScalar))
    throw invalid(
      `${name}.value must be a text, number, boolean, null, or a list of 1 to ${VALUES_MAX} of them`,
    )
  if (/^[gl]te?$/.test(operator) && (values.length !== 1 || !Number.isFinite(numberOf(values[0]))))
    throw invalid(`${name}.value must be one number`)
  return { ...condition, value: value as Scalar | Scalar[] }
}

export type Predicate = (view: EventView) => boolean

/** The conditions as one predicate; undefined when there is none. Event names are for the index. */
export function compileWhere(filter: Filter): Predicate | undefined {
  const tests = (filter.where ?? []).map(compileCondition)
  if (tests.length === 0) return undefined
  return (view) => {
    for (const test of tests) if (!test(view)) return false
    return true
  }
}

function compileCondition({ on, key, is, value }: Condition): Predicate {
  const found = finder(key, on === 'person')
  const values = (Array.isArray(value) ? value : [value]).map((one) => one ?? null)
  const texts = new Set(values.map(comparable))
  const lowered = values.map((one) => String(one).toLowerCase())
  const limit = numberOf(values[0])
  const contains = (actual: unknown) => {
    const text = comparable(actual).toLowerCase()
    return lowered.some((part) => text.includes(part))
  }
  const compare = (holds: (actual: number) => boolean) => (view: EventView) => {
    const actual = numberOf(found(view))
    return !Number.isNaN(actual) && holds(actual)
  }
  switch (is) {
    case 'exact':
      return (view) => {
        const actual = found(view)
        return actual !== undefined && anyOf(actual, (one) => texts.has(comparable(one)))
      }
    case 'is_not':
      return (view) => {
        const actual = found(view)
        return actual === undefined || !anyOf(actual, (one) => texts.has(comparable(one)))
      }
    case 'icontains':
      return (view) => {
        const actual = found(view)
        return actual !== undefined && contains(actual)
      }
    case 'not_icontains':
      return (view) => {
        const actual = found(view)
        return actual === undefined || !contains(actual)
      }
    case 'gt':
      return compare((actual) => actual > limit)
    case 'gte':
      return compare((actual) => actual >= limit)
    case 'lt':
      return compare((actual) => actual < limit)
    case 'lte':
      return compare((actual) => actual <= limit)
    case 'is_set':
      return (view) => isSet(found(view))
    case 'is_not_set':
      return (view) => !isSet(found(view))
  }
}

/** Looks a property up: a plain key is one access, half of what a question for its own keys costs besides. */
function finder(key: string, ofPerson: boolean): (view: EventView) => unknown {
  const properties = ofPerson
    ? (view: EventView) => view.personProperties
    : (view: EventView) => view.properties
  if (key.includes('.')) {
    const path = key.split('.')
    return (view) => {
      const all = properties(view)
      return Object.hasOwn(all, key) ? all[key] : follow(all, path)
    }
  }
  // What every object has is no property of an event.
  if (key in Object.prototype) {
    return (view) => {
      const all = properties(view)
      return Object.hasOwn(all, key) ? all[key] : undefined
    }
  }
  return (view) => properties(view)[key]
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== ''
}

/** A property that is a list matches when one of its values does. */
function anyOf(actual: unknown, test: (one: unknown) => boolean): boolean {
  return Array.isArray(actual) ? actual.some(test) : test(actual)
}

/** 1 and "1", true and "true" are equal, as in PostHog. */
function comparable(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}

function numberOf(value: unknown): number {
  if (typeof value === 'number') return value
  return typeof value === 'string' && value.trim() !== '' ? Number(value) : Number.NaN
}

function follow(properties: Record<string, unknown>, path: readonly string[]): unknown {
  let at: unknown = properties
  for (const part of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return undefined
    at = (at as Record<string, unknown>)[part]
  }
  return at
}

function object(input: unknown, name: string): Record<string, unknown> {
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    throw invalid(`${name} must be an object`)
  return input as Record<string, unknown>
}

function refuseRest(rest: Record<string, unknown>, name: string): void {
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) throw invalid(`${name} has "${unknown}", which nobody knows`)
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isScalar(value: unknown): value is Scalar {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value)
}

function invalid(message: string) {
  return deliverError('HR_DESTINATION_INVALID', message)
}
