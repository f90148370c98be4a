/**
 * Declarative mapping: JSON in which a text may name a part of the event. `"{properties.amount}"` alone is that value with
 * its type, or left out with its key when there is none; within other text it is written into it. `{{` is a brace. In: a
 * template, compiled once. Out: a function of an event. Runs nothing of the user's, never throws for an event.
 */
import { deliverError } from './errors.ts'

export type Fields = Record<string, unknown>
type Part = (fields: Fields) => unknown

const DEPTH_MAX = 20
const PLACE = /\{\{|\{([a-z_$][^{}]*)\}/gi

/** Throws HR_DESTINATION_INVALID. */
export function compileTemplate(template: unknown, depth = 0): Part {
  if (depth > DEPTH_MAX)
    throw deliverError('HR_DESTINATION_INVALID', `a template may be nested ${DEPTH_MAX} levels deep`)
  if (typeof template === 'string') return compileText(template)
  if (Array.isArray(template)) {
    const parts = template.map((one) => compileTemplate(one, depth + 1))
    return (fields) => parts.map((part) => part(fields)).filter((value) => value !== undefined)
  }
  if (typeof template === 'object' && template !== null) {
    const parts = Object.entries(template).map(
      ([key, one]) => [key, compileTemplate(one, depth + 1)] as const,
    )
    return (fields) => {
      const made: Record<string, unknown> = {}
      for (const [key, part] of parts) {
        const value = part(fields)
        if (value !== undefined)
          Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true })
      }
      return made
    }
  }
  return () => template
}

function compileText(text: string): Part {
  const whole = /^\{([a-z_$][^{}]*)\}$/i.exec(text)
  if (whole) {
    const path = whole[1]!.split('.')
    return (fields) => follow(fields, path)
  }
  if (!text.includes('{')) return () => text
  return (fields) =>
    text.replace(PLACE, (match, path: string | undefined) => {
      if (path === undefined) return match === '{{' ? '{' : match
      const value = follow(fields, path.split('.'))
      if (value === undefined || value === null) return ''
      return typeof value === 'object' ? JSON.stringify(value) : String(value)
    })
}

/** A property whose name has dots in it is found, too. */
export function follow(fields: unknown, path: readonly string[]): unknown {
  let at: unknown = fields
  for (let i = 0; i < path.length; i++) {
    if (typeof at !== 'object' || at === null) return undefined
    const rest = path.slice(i).join('.')
    if (Object.hasOwn(at, rest)) return (at as Fields)[rest]
    if (!Object.hasOwn(at, path[i]!)) return undefined
    at = (at as Fields)[path[i]!]
  }
  return at
}
