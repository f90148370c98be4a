/**
 * Which distinct ids may never join two persons (ingestion spec §9.2): placeholders that unrelated users share
 * because of a mistake in a client, and the one that all cookieless visitors send. An ordinary event with such an id
 * makes an ordinary person.
 */
import { COOKIELESS_DISTINCT_ID } from '../cookieless/index.ts'
import type { Json } from './types.ts'

const ANY_CASE = [
  'anonymous',
  'guest',
  'distinctid',
  'distinct_id',
  'id',
  'not_authenticated',
  'email',
  'undefined',
  'true',
  'false',
]
const EXACT = ['[object Object]', 'NaN', 'None', 'none', 'null', '0', 'undefined', COOKIELESS_DISTINCT_ID]

const quoted = (words: string[]) => words.flatMap((word) => [word, `'${word}'`, `"${word}"`])
const anyCase = new Set(quoted(ANY_CASE))
const exact = new Set(quoted(EXACT))

/** In code points; a longer id could not be a key of the mapping table. */
export const MERGE_ID_LENGTH_MAX = 400

/** True when `id`, as it came, may not take part in a merge. */
export function isUnmergeable(id: string): boolean {
  if (id.trim() === '' || exact.has(id) || anyCase.has(id.toLowerCase())) return true
  if (id.includes('\0')) return true
  return id.length > MERGE_ID_LENGTH_MAX && [...id].length > MERGE_ID_LENGTH_MAX
}

/** The id that a client put into a property: any JSON, which must not be asked to describe itself. */
export function idText(value: Json): string {
  if (typeof value === 'string') return value
  if (typeof value === 'object' && value !== null) return '[object Object]'
  return String(value)
}
