/**
 * The context of a message → properties: what has a name of ours gets it, the rest stays in `$context` under its own.
 * Cost: one look at each member of the first two levels.
 */
import { addOwn, emptyObject, isEmptyObject, isObject, type JsonObject, place } from './json.ts'
import { CONTEXT_PROPERTIES } from './mapping-tables.ts'

/** Names at the first level of `context`, and those one level deeper by their group. */
const DIRECT = new Map<string, string>()
const NESTED = new Map<string, Map<string, string>>()
for (const [from, to] of CONTEXT_PROPERTIES) {
  const [group, member] = from.split('.') as [string, string | undefined]
  if (member === undefined) DIRECT.set(group, to)
  else NESTED.set(group, (NESTED.get(group) ?? new Map<string, string>()).set(member, to))
}

/** Moves what has a property of ours there, and the rest to `$context`. */
export function addContext(properties: JsonObject, context: JsonObject): void {
  let rest: JsonObject | undefined
  for (const key of Object.keys(context)) {
    const value = context[key]!
    if (value === null) continue
    const direct = DIRECT.get(key)
    if (direct !== undefined && typeof value !== 'object' && place(properties, direct, value)) continue
    const members = NESTED.get(key)
    const left = members !== undefined && isObject(value) ? addMembers(properties, members, value) : value
    if (left === undefined || isEmptyObject(left)) continue
    rest ??= emptyObject()
    rest[key] = left
  }
  if (rest !== undefined) addOwn(properties, '$context', rest)
}

function addMembers(
  properties: JsonObject,
  members: ReadonlyMap<string, string>,
  group: JsonObject,
): JsonObject | undefined {
  let rest: JsonObject | undefined
  for (const key of Object.keys(group)) {
    const value = group[key]!
    if (value === null) continue
    const to = members.get(key)
    if (to !== undefined && typeof value !== 'object' && place(properties, to, value)) continue
    rest ??= emptyObject()
    rest[key] = value
  }
  return rest
}

const DIRECTLY = '$direct'

/** What our web events say besides: the hosts of the page and of its referrer, and that there is no referrer. */
export function completePage(properties: JsonObject): void {
  const { $current_url: url, $referrer: referrer } = properties
  if (typeof url === 'string') {
    const host = hostOf(url)
    if (host !== '') place(properties, '$host', host)
  }
  if (typeof referrer !== 'string') return
  if (referrer === '') properties.$referrer = DIRECTLY
  const domain = referrer === '' ? DIRECTLY : hostOf(referrer)
  if (domain !== '') place(properties, '$referring_domain', domain)
}

/** `host:port` of an absolute address, else empty; `URL` would cost ten times as much. */
function hostOf(url: string): string {
  const scheme = url.indexOf('://')
  if (scheme < 1) return ''
  let end = scheme + 3
  for (; end < url.length; end++) {
    const unit = url.charCodeAt(end)
    if (unit === SLASH || unit === QUESTION_MARK || unit === HASH) break
  }
  const authority = url.slice(scheme + 3, end)
  return authority.slice(authority.lastIndexOf('@') + 1)
}

const SLASH = 0x2f
const QUESTION_MARK = 0x3f
const HASH = 0x23
