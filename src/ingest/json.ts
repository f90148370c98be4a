/** Small questions about parsed JSON that several steps ask. */
import type { Json } from '../event/index.ts'

export { isDeeperThan, isObject, type Json, type JsonObject, own } from '../event/index.ts'

/**
 * The text of a key or an id that a client sent as JSON: strings as they are, true, false and numbers as they are
 * written. Undefined for what is none: objects, arrays, and whole numbers beyond 2^53, of which two that differ read
 * the same and would join what is apart.
 */
export function keyText(value: Json): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (typeof value !== 'number' || (Number.isInteger(value) && !Number.isSafeInteger(value))) return undefined
  return Number.isFinite(value) ? String(value) : undefined
}

/** What a warning tells of a value: its beginning. */
export function beginningOf(value: Json): Json {
  if (typeof value === 'string') return value.length <= TOLD_UNITS_MAX ? value : cut(value, TOLD_UNITS_MAX)
  if (typeof value !== 'object' || value === null) return value
  return cut(JSON.stringify(value), TOLD_UNITS_MAX)
}

const TOLD_UNITS_MAX = 200

/** At most `units` UTF-16 units of `text`, no character cut in half. */
export function cut(text: string, units: number): string {
  if (text.length <= units) return text
  const last = text.charCodeAt(units - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 1 : units)
}
