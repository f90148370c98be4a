/** The bytes of a segment: what was written comes back, and no changed bit goes unseen. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  checkFrame,
  decodeFrameHeader,
  decodeSegmentHeader,
  encodeFrameHeader,
  encodeRecord,
  encodeSegmentHeader,
  FRAME_HEADER_BYTES,
  findFrame,
  frameSum,
  getU64,
  logIdMark,
  putU64,
  recordsBytes,
} from './format.ts'

const LOG_ID = '11111111-2222-4333-8444-555555555555'
const mark = logIdMark(LOG_ID)
const record = fc.record({
  header: fc.uint8Array({ maxLength: 40 }),
  value: fc.uint8Array({ maxLength: 120 }),
})

function frameOf(base: number, records: { header: Uint8Array; value: Uint8Array }[]): Buffer {
  const bodyBytes = recordsBytes(records)
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + bodyBytes)
  let at = FRAME_HEADER_BYTES
  for (const one of records) at = encodeRecord(bytes, at, one)
  encodeFrameHeader(
    bytes,
    0,
    { base, appendedMs: 1_790_000_000_000, records: records.length, bodyBytes },
    mark,
  )
  return bytes
}

describe('format', () => {
  test('64-bit numbers come back', () => {
    const bytes = Buffer.alloc(8)
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        putU64(bytes, 0, value)
        expect(getU64(bytes, 0)).toBe(value)
      }),
    )
  })

  test('a whole frame is accepted, any part of it is not', () => {
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 5 }), fc.maxSafeNat(), (records, base) => {
        const bytes = frameOf(base, records)
        const header = decodeFrameHeader(bytes, 0, mark)!
        expect(header).toMatchObject({ base, records: records.length })
        expect(checkFrame(bytes, 0, header)).toBe(bytes.length)
        expect(checkFrame(bytes.subarray(0, bytes.length - 1), 0, header)).toBeUndefined()
        expect(decodeFrameHeader(bytes, 0, logIdMark('11111111-2222-4333-8444-555555555556'))).toBeUndefined()
      }),
    )
  })

  test('every flipped bit of a frame is noticed', () => {
    const bytes = frameOf(7, [
      { header: Buffer.from('header'), value: Buffer.from('a value') },
      { header: new Uint8Array(0), value: Buffer.from('another value') },
    ])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      const header = decodeFrameHeader(flipped, 0, mark)
      expect(header && checkFrame(flipped, 0, header)).toBeUndefined()
    }
  })

  test('a frame put together of pieces of others has another sum', () => {
    const text = (value: string) => ({ header: Buffer.from('h'), value: Buffer.from(value) })
    const first = frameOf(1, [text('aaaa'), text('bbbb'), text('aaaa')])
    const second = frameOf(2, [text('cccc'), text('dddd'), text('cccc')])
    const sums = new Set<number>()
    const lengths = [FRAME_HEADER_BYTES, ...[0, 1, 2].map(() => recordsBytes([text('aaaa')]))]
    for (let choice = 0; choice < 16; choice++) {
      const mixed = Buffer.from(first)
      let at = 0
      lengths.forEach((length, piece) => {
        if (choice & (1 << piece)) second.copy(mixed, at, at, at + length)
        at += length
      })
      expect(checkFrame(mixed, 0, decodeFrameHeader(mixed, 0, mark)!)).toBe(mixed.length)
      sums.add(frameSum(mixed, 0))
    }
    expect(sums.size).toBe(16)
    expect(frameSum(Buffer.concat([Buffer.alloc(3), first]), 3)).toBe(frameSum(first, 0))
  })

  test('every flipped bit of a segment header is noticed', () => {
    const header = { logId: LOG_ID, partition: 3, base: 2 ** 40 + 5, madeMs: 1_790_000_000_000 }
    const bytes = encodeSegmentHeader(header)
    expect(decodeSegmentHeader(bytes)).toEqual(header)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      expect(decodeSegmentHeader(flipped)).toBeUndefined()
    }
  })

  test('the next frame is found behind any rubbish, and only one that is new enough', () => {
    const frame = frameOf(9, [{ header: new Uint8Array(0), value: Buffer.from('x') }])
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rubbish) => {
        const bytes = Buffer.concat([frame.subarray(0, 4), rubbish, frame, rubbish])
        expect(findFrame(bytes, 0, 9, mark)).toBe(4 + rubbish.length)
        expect(findFrame(bytes, 0, 10, mark)).toBeUndefined()
      }),
    )
  })
})
