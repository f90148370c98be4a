/** Booleans as v1 takes them: true and false, numbers with 0 for false, and the usual words (capture spec §6.2). */
import { type JsonPick, JsonSlice } from '../../../event/index.ts'

const TRUE_WORDS: ReadonlySet<string> = new Set(['true', 't', 'yes', 'y', 'on'])
const FALSE_WORDS: ReadonlySet<string> = new Set(['false', 'f', 'no', 'n', 'off'])
/** No digit can be taken in two ways, so that a text of a million of them is judged in one pass. */
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/

/** Undefined when it is null, blank or not there. `bytes` are those that `value` was picked from. */
export function lenientBoolean(bytes: Buffer, value: JsonPick | undefined): boolean | undefined | 'invalid' {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'boolean') return value
  if (value instanceof JsonSlice) {
    return value.kind === 'number' ? isOn(bytes.toString('latin1', value.start, value.end)) : 'invalid'
  }
  const word = value.trim().toLowerCase()
  if (word === '') return undefined
  if (TRUE_WORDS.has(word)) return true
  if (FALSE_WORDS.has(word)) return false
  return NUMBER.test(word) ? isOn(word) : 'invalid'
}

/** Whether a digit other than 0 stands before the exponent, so that 1e-999 is not 0. */
function isOn(number: string): boolean {
  return /[1-9]/.test(number.split(/e/i)[0]!)
}
