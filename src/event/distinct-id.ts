/**
 * How a distinct_id is kept: as sent when it is usual; NUL and lone surrogates, which neither Postgres nor UTF-8 hold,
 * become U+FFFD; one that is too long is cut and gets a hash of the whole, so that two people are never merged by it.
 */
import { createHash } from 'node:crypto'

/** Characters (code points) of a distinct_id. */
export const DISTINCT_ID_CHARS_MAX = 200
const HASH_CHARS = 32

/** The id that `text` stands for everywhere in the pipeline. Applied twice it changes nothing more. */
export function boundDistinctId(text: string): string {
  return isUsual(text) ? text : bounded(text)
}

/** Short, and of plain characters only: nearly every id, told without a call out of the engine. */
function isUsual(text: string): boolean {
  if (text.length > DISTINCT_ID_CHARS_MAX) return false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0 || (code >= 0xd800 && code <= 0xdfff)) return false
  }
  return true
}

function bounded(text: string): string {
  const clean = text.includes('\0') ? text.replaceAll('\0', '\ufffd').toWellFormed() : text.toWellFormed()
  if (clean.length <= DISTINCT_ID_CHARS_MAX) return clean
  // A character is one or two UTF-16 units, so this many units hold all that is kept and one more.
  const head = Array.from(clean.slice(0, (DISTINCT_ID_CHARS_MAX + 1) * 2))
  if (head.length <= DISTINCT_ID_CHARS_MAX) return clean
  const hash = createHash('sha256').update(clean).digest('hex').slice(0, HASH_CHARS)
  return `${head.slice(0, DISTINCT_ID_CHARS_MAX - HASH_CHARS - 1).join('')}~${hash}`
}
