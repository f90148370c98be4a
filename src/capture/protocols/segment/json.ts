/** The tree of a message, and setting properties in it so that what the message says itself is never overwritten. */
export type Json = null | boolean | number | string | Json[] | JsonObject
export type JsonObject = { [key: string]: Json }

/** Sets `name` unless the message gave it a value itself; false when that is another one. */
export function place(properties: JsonObject, name: string, value: Json): boolean {
  const own = properties[name]
  if (own !== undefined) return own === value
  properties[name] = value
  return true
}

/** Sets an object of ours; a property that the message itself calls so moves into it. */
export function addOwn(properties: JsonObject, name: string, value: JsonObject): void {
  const own = properties[name]
  if (own !== undefined) value[name] = own
  properties[name] = value
}

/** Without a prototype, so that a key named `__proto__` is a key like any other. */
export function emptyObject(): JsonObject {
  return Object.create(null) as JsonObject
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isAbsentOrObject(value: Json | undefined): boolean {
  return value === undefined || value === null || isObject(value)
}

export function isPresent(value: Json | undefined): boolean {
  return value !== undefined && value !== null
}

export function isEmptyObject(value: Json): boolean {
  if (!isObject(value)) return false
  for (const _ in value) return false
  return true
}
