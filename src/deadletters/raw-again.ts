/**
 * The raw record with which a dead letter comes back: the client's bytes as they were, and capture's header with the
 * source whose claim it takes over (`replay_of`). Of the header nothing else changes but the mark that a restriction
 * made: who sends a restricted event again wants it let in. Pure.
 */
import { type Bytes, decodeRawHeader, encodeRawHeader, type RawHeader, type Source } from '../event/index.ts'
import type { LetterBytes } from './letters.ts'

export type RawAgain = { header: Bytes; value: Bytes }

/** A sentence when the header cannot be read by this version. */
export function rawAgain(letter: Source, { header, value }: LetterBytes): RawAgain | string {
  let known: RawHeader
  try {
    known = decodeRawHeader(header)
  } catch (error) {
    return `its header cannot be read by this version: ${(error as Error).message}`
  }
  const { logId, partition, offset, sub } = letter
  const again = encodeRawHeader({
    ...known,
    disposition: known.disposition === 'deadLetter' ? 'event' : known.disposition,
    replayOf: { logId, partition, offset, sub },
  })
  return { header: again, value }
}

/** Of which letter a raw record is the return; undefined for any other. */
export function replayedBy(header: Uint8Array): Source | undefined {
  try {
    return decodeRawHeader(header).replayOf
  } catch {
    return undefined
  }
}
