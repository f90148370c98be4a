/**
 * What the scans of all protocols share: names of members as numbers, values that count into an event's depth, and the
 * refusal of what cannot be scanned.
 */
import {
  type JsonFields,
  type JsonPick,
  JsonScanError,
  type JsonScanner,
  JsonValuesError,
} from '../event/index.ts'
import { captureError } from './errors.ts'

const OPEN_BRACE = 0x7b
const LETTER_N = 0x6e

/** The numbers that `JsonFields` gives to `names`, by name. */
export function fieldNumbers<const N extends readonly string[]>(
  names: N,
): { readonly [K in N[number]]: number } {
  return Object.fromEntries(names.map((name, number) => [name, number])) as { [K in N[number]]: number }
}

/** What the next value is; passes nothing but white space. */
export function kindOf(scanner: JsonScanner): 'object' | 'null' | 'other' {
  const first = scanner.peek()
  return first === OPEN_BRACE ? 'object' : first === LETTER_N ? 'null' : 'other'
}

/** Picks a value that stands `level` levels deep in the event, and keeps count of the event's depth. */
export function pickMember(scanner: JsonScanner, into: { depth: number }, level: number): JsonPick {
  scanner.deepest = 0
  const value = scanner.pick()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
  return value
}

/** Passes such a value. */
export function skipMember(scanner: JsonScanner, into: { depth: number }, level: number): void {
  scanner.deepest = 0
  scanner.skip()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
}

/** The next member of an object `level` levels deep whose key is in `fields`, as `JsonScanner.seek` gives it. */
export function seekMember(
  scanner: JsonScanner,
  fields: JsonFields,
  behindValue: boolean,
  into: { depth: number },
  level: number,
): number {
  scanner.deepest = 0
  const field = scanner.seek(fields, behindValue)
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
  return field
}

/** HR_CAPTURE_NOT_JSON or HR_CAPTURE_TOO_MANY_VALUES when the scanner of a body of `bodyBytes` threw `error`, else `error`. */
export function scanRefusal(error: unknown, bodyBytes: number): unknown {
  if (error instanceof JsonValuesError) {
    return captureError(
      'HR_CAPTURE_TOO_MANY_VALUES',
      `the request holds more than ${error.valuesMax} JSON values, which is what is allowed; send it in parts`,
      error,
    )
  }
  if (!(error instanceof JsonScanError)) return error
  return captureError(
    'HR_CAPTURE_NOT_JSON',
    `the body is not JSON: ${error.message}, at byte ${error.at} of ${bodyBytes}`,
    error,
  )
}
