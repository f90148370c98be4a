/**
 * Words that clients send as a distinct_id when they have none (capture spec §6.3). All who send one would become one
 * person, so v1 stores their events without a person.
 */
import { NIL_UUID } from '../../../event/index.ts'

const ILLEGAL: ReadonlySet<string> = new Set([
  '0',
  '[object object]',
  'anonymous',
  'anonymous-user',
  'backend',
  'distinct_id',
  'distinctid',
  'email',
  'false',
  'guest',
  'id',
  'nan',
  'none',
  'not_authenticated',
  'null',
  'system',
  'true',
  'undefined',
  'user',
])
/** That of the longest word. */
const UNITS_MAX = 17

/** In any case of letters. */
export function isIllegalDistinctId(id: string): boolean {
  return id.length <= UNITS_MAX ? ILLEGAL.has(id.toLowerCase()) : id === NIL_UUID
}
