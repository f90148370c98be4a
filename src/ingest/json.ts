/** Small questions about parsed JSON that several steps ask. */
import type { Json, JsonObject } from './identity/types.ts'

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Own property only: `toString` and `__proto__` of a hostile object must not answer. */
export function own(object: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined
}
