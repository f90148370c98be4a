/**
 * Reads what people write about a project (its policy, its options of ingestion): strictly, because what is misread
 * changes what becomes of events. An error names the field, the value and what is allowed.
 */
import { canonicalUuid } from '../event/index.ts'

/** Reads one value; `path` is where it stands, for the error. */
export type Read<T> = (value: unknown, path: string) => T
export type Fields<T> = { [K in keyof T]-?: Read<Exclude<T[K], undefined>> }

/** Readers of the parts of `whole`, as it is called in errors; `errorOf` makes an error of its sentence. */
export function strictReaders(whole: string, errorOf: (sentence: string) => Error) {
  function refuse(path: string, value: unknown, allowed: string): Error {
    const shown = value === undefined ? 'missing' : (JSON.stringify(value)?.slice(0, 60) ?? String(value))
    return errorOf(`${path} is ${shown}; allowed is ${allowed}`)
  }

  /** An object with no other fields than `fields`. */
  function object<T extends object>(fields: Fields<T>, needed: readonly (keyof T & string)[] = []): Read<T> {
    const names = Object.keys(fields) as (keyof T & string)[]
    return (value, path) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw refuse(path, value, `an object with ${names.join(', ')}`)
      }
      const inside = (name: string) => (path === whole ? name : `${path}.${name}`)
      for (const name of Object.keys(value)) {
        if (names.includes(name as keyof T & string)) continue
        throw errorOf(`${inside(name)} is not known; known are ${names.join(', ')}`)
      }
      const result: Partial<T> = {}
      for (const name of names) {
        const member = (value as Partial<Record<string, unknown>>)[name]
        if (member !== undefined || needed.includes(name)) result[name] = fields[name](member, inside(name))
      }
      return result as T
    }
  }

  function list<T>(min: number, max: number, read: Read<T>): Read<T[]> {
    return (value, path) => {
      if (!Array.isArray(value) || value.length < min || value.length > max) {
        const size = Array.isArray(value) ? `a list of ${value.length}` : value
        const none = min > 0 ? '; without the field there is none' : ''
        throw refuse(path, size, `a list of ${min} to ${max}${none}`)
      }
      return value.map((element, index) => read(element, `${path}[${index}]`))
    }
  }

  /** `max` in UTF-16 units. */
  function text(max: number): Read<string> {
    return (value, path) => {
      const fits = typeof value === 'string' && value !== '' && value.length <= max
      if (fits && value.isWellFormed() && !value.includes('\0')) return value
      throw refuse(path, value, `a text of 1 to ${max} characters without NUL`)
    }
  }

  function uuid(value: unknown, path: string): string {
    const canonical = typeof value === 'string' ? canonicalUuid(value) : undefined
    if (canonical === undefined) throw refuse(path, value, 'a UUID')
    return canonical
  }

  function integer(min: number, max: number): Read<number> {
    return (value, path) => {
      if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
      throw refuse(path, value, `a whole number from ${min} to ${max}`)
    }
  }

  function choice<const C extends readonly string[]>(choices: C): Read<C[number]> {
    return (value, path) => {
      const chosen = choices.find((one) => one === value)
      if (chosen === undefined) throw refuse(path, value, `one of ${choices.join(', ')}`)
      return chosen
    }
  }

  function flag(value: unknown, path: string): boolean {
    if (typeof value === 'boolean') return value
    throw refuse(path, value, 'true or false')
  }

  /** A name of the IANA time zone database, as it was written; offsets such as +01:00 are none. */
  function timezone(value: unknown, path: string): string {
    if (typeof value === 'string' && /^[A-Za-z]/.test(value) && isTimezone(value)) return value
    throw refuse(path, value, 'a time zone of the IANA database, such as Europe/Berlin')
  }

  return { choice, flag, integer, list, object, text, timezone, uuid }
}

function isTimezone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
