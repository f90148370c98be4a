/**
 * Texts that come again and again (names of events and SDKs, tokens), so that they need not be made again: the scanner's
 * loops find them by their bytes, for nothing beside the scan, and nothing is left for the collector.
 * What must hold: the text of number n is that of the bytes which the loops keep for number n.
 */
import { keepAtom } from './scan-memory.ts'

/** The loops give no greater numbers, and none to lengths of 24 to 39 bytes or above 64: ids and times all differ. */
const ATOMS = 512
const atoms: string[] = new Array(ATOMS).fill('')

/** The text that the loops found to be number `number`. */
export function atom(number: number): string {
  return atoms[number]!
}

/** Makes `text`, which is the `length` bytes at `at` of the text in the scanner's memory, number `number`. */
export function makeAtom(number: number, text: string, at: number, length: number): void {
  keepAtom(number, at, length)
  atoms[number] = text
}
