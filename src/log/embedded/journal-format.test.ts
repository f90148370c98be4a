import { describe, expect, test } from 'bun:test'
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { uuidBytes } from '../../event/index.ts'
import {
  BLOCK_BYTES,
  decodeEntry,
  encodeEntry,
  encodeJournalHeader,
  framesFrom,
  inBlocks,
  isJournalHeader,
  JOURNAL_HEADER_BYTES,
  openEntries,
  partLabel,
} from './journal-format.ts'

const ID = randomUUID()
const LOG_ID = randomUUID()
const idOf = (id: string) => Buffer.from(uuidBytes(id)!)

/** An entry with one part of `frameBytes`, as whole blocks. */
function entry(number: number, clean: number, frameBytes = 100, id = ID): Buffer {
  const label = partLabel(LOG_ID, number % 5, 'topic')
  const at = framesFrom([label])
  const bytes = Buffer.alloc(inBlocks(at + frameBytes), 0xee)
  const parts = [{ label, segment: 7, position: 64, at, length: frameBytes, sum: 9 }]
  encodeEntry(bytes, { id: idOf(id), number, clean, parts, bytes: at + frameBytes })
  return bytes
}

const journal = (...entries: Buffer[]) => Buffer.concat([encodeJournalHeader(ID), ...entries])
const numbers = (bytes: Buffer) => openEntries(bytes, ID).entries.map(({ number }) => number)

describe('journal format', () => {
  test('what is written comes back, with places counted from the beginning', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            topic: fc.stringMatching(/^[a-z]{1,200}$/),
            partition: fc.nat({ max: 4095 }),
            segment: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
            position: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
            length: fc.nat({ max: 5_000 }),
            sum: fc.nat({ max: 2 ** 32 - 1 }),
          }),
          { maxLength: 20 },
        ),
        (wanted) => {
          const labels = wanted.map(({ topic, partition }) => partLabel(LOG_ID, partition, topic))
          let end = framesFrom(labels)
          const parts = wanted.map(({ segment, position, length, sum }, i) => {
            end += length
            return { label: labels[i]!, segment, position, at: end - length, length, sum }
          })
          const bytes = Buffer.alloc(inBlocks(end))
          encodeEntry(bytes, { id: idOf(ID), number: 2 ** 40, clean: 2 ** 39, parts, bytes: end })
          const whole = journal(bytes)
          const read = decodeEntry(whole, JOURNAL_HEADER_BYTES, idOf(ID))!
          expect([read.number, read.clean]).toEqual([2 ** 40, 2 ** 39])
          expect(read.parts).toEqual(
            wanted.map(({ topic, partition, segment, position, length, sum }, i) => ({
              logId: LOG_ID,
              topic,
              partition,
              segment,
              position,
              length,
              sum,
              at: JOURNAL_HEADER_BYTES + parts[i]!.at,
            })),
          )
        },
      ),
    )
  })

  test('every flipped bit of header and table is noticed, and so is another id', () => {
    const whole = entry(1, 1)
    const end = framesFrom([partLabel(LOG_ID, 1, 'topic')])
    for (let bit = 0; bit < 8 * end; bit++) {
      const bytes = Buffer.from(whole)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(decodeEntry(bytes, 0, idOf(ID))).toBeUndefined()
    }
    expect(decodeEntry(whole, 0, idOf(randomUUID()))).toBeUndefined()
    expect(decodeEntry(whole, 0, idOf(ID))!.number).toBe(1)
    const header = encodeJournalHeader(ID)
    expect(isJournalHeader(header, ID)).toBe(true)
    expect(isJournalHeader(header, LOG_ID)).toBe(false)
    for (let bit = 0; bit < 8 * 28; bit++) {
      const bytes = Buffer.from(header)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(isJournalHeader(bytes, ID)).toBe(false)
    }
  })

  test('the rest of the last block is blank', () => {
    const bytes = entry(1, 1, BLOCK_BYTES)
    expect(bytes.length).toBe(2 * BLOCK_BYTES)
    expect(
      bytes.subarray(framesFrom([partLabel(LOG_ID, 1, 'topic')]) + BLOCK_BYTES).every((byte) => byte === 0),
    ).toBe(true)
  })

  const blank = Buffer.alloc(BLOCK_BYTES)
  for (const [rule, bytes, open, missing] of [
    ['an empty journal', journal(blank, blank), [], []],
    ['entries in order', journal(entry(1, 1), entry(2, 1, 9_000), entry(3, 1)), [1, 2, 3], []],
    ['a torn end is no damage', journal(entry(1, 1), entry(2, 1), blank), [1, 2], []],
    ['a hole is damage', journal(entry(1, 1), blank, blank, entry(4, 1)), [1, 4], [2, 3]],
    ['a missing beginning is damage', journal(blank, entry(2, 1)), [2], [1]],
    [
      'the half that is used again holds the newest',
      journal(entry(5, 3), entry(2, 1), entry(3, 1), entry(4, 1)),
      [3, 4, 5],
      [],
    ],
    [
      'torn where the older half begins: told clean before',
      journal(blank, entry(2, 1), entry(3, 1), entry(4, 3)),
      [3, 4],
      [],
    ],
    ['of another journal', journal(entry(1, 1), entry(2, 1, 100, LOG_ID)), [1], []],
  ] as const)
    test(rule, () => {
      expect(numbers(bytes)).toEqual([...open])
      expect(openEntries(bytes, ID).missing).toEqual([...missing])
    })

  test('an entry within a record of another one is not taken for one', () => {
    // What a client would have to send, were the id no secret.
    const bytes = entry(1, 1, 3 * BLOCK_BYTES)
    entry(2, 1, 100, LOG_ID).copy(bytes, BLOCK_BYTES)
    expect(numbers(journal(bytes))).toEqual([1])
  })
})
