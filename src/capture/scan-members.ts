/** What the scans of all protocols share: names of members as numbers, and values that count into an event's depth. */
import type { JsonPick, JsonScanner } from '../event/index.ts'

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
