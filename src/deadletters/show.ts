/** One dead letter, whole: what is known of it, its header unpacked, its bytes as the client sent them. */
import { decodeRawHeader, type RawHeader } from '../event/index.ts'
import { adviceOf } from './advice.ts'
import type { Letter, LetterFilter } from './letter.ts'
import { bytesKey, findLetters, type LetterDeps, readBytes } from './letters.ts'

export type ShownLetter = Letter & {
  advice: string
  header: RawHeader | undefined
  /** Why there is no header. */
  headerTrouble: string | undefined
  rawHeader: Buffer
  rawValue: Buffer
}

/** Those of a uuid, or the one of a source, oldest first. At most `lettersMax`, since one uuid may be sent often. */
export async function showLetters(
  deps: LetterDeps,
  which: Pick<LetterFilter, 'uuid' | 'source'>,
  lettersMax = 20,
): Promise<ShownLetter[]> {
  const letters = (await findLetters(deps, which)).sort((a, b) => a.atMs - b.atMs).slice(0, lettersMax)
  return Promise.all(
    letters.map(async (letter) => {
      const bytes = (await readBytes(deps.warehouse, [letter])).get(bytesKey(letter))
      const rawHeader = bytes?.header ?? Buffer.alloc(0)
      return {
        ...letter,
        advice: adviceOf(letter),
        ...unpack(rawHeader),
        rawHeader,
        rawValue: bytes?.value ?? Buffer.alloc(0),
      }
    }),
  )
}

function unpack(bytes: Buffer): Pick<ShownLetter, 'header' | 'headerTrouble'> {
  if (bytes.length === 0) return { header: undefined, headerTrouble: 'there is none' }
  try {
    return { header: decodeRawHeader(bytes), headerTrouble: undefined }
  } catch (error) {
    return { header: undefined, headerTrouble: (error as Error).message }
  }
}
