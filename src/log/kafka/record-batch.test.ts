import { describe, expect, test } from 'bun:test'
import { crc32c } from '@platformatic/kafka'
import fc from 'fast-check'
import { COMPRESSIONS } from './options.ts'
import {
  BATCH_HEAD_BYTES,
  batchBytes,
  decodeBatches,
  type Payload,
  packBatch,
  RECORD_OVERHEAD_BYTES,
  writeBatch,
} from './record-batch.ts'

const identity = { producerId: 7n, epoch: 3, sequence: 11 }
const payload = fc.record({
  header: fc.uint8Array({ maxLength: 300 }),
  value: fc.uint8Array({ maxLength: 3000 }),
})
const payloads = fc.array(payload, { minLength: 1, maxLength: 40 })

/** As the broker stores it: with its first offset filled in (which the CRC does not cover). */
function storedAt(
  offset: number,
  records: Payload[],
  compression: (typeof COMPRESSIONS)[number] = 'none',
): Buffer {
  const batch = Buffer.from(packBatch({ records, identity, nowMs: 1_700_000_000_000 }, compression))
  batch.writeBigInt64BE(BigInt(offset), 0)
  return batch
}

function bytesOf(records: Payload[]): number {
  return records.reduce((sum, { header, value }) => sum + header.length + value.length, 0)
}

describe('record batches', () => {
  test.each([...COMPRESSIONS])('what is written is read back (%s)', (compression) => {
    fc.assert(
      fc.property(payloads, fc.nat(2 ** 40), (records, base) => {
        const {
          records: read,
          next,
          fault,
          bytes,
        } = decodeBatches(storedAt(base, records, compression), base)
        expect(fault).toBeUndefined()
        expect(next).toBe(base + records.length)
        expect(bytes).toBe(bytesOf(records))
        expect(read.map(({ offset }) => offset)).toEqual(records.map((_, i) => base + i))
        for (const [i, record] of read.entries()) {
          expect(Buffer.compare(record.header, records[i]!.header)).toBe(0)
          expect(Buffer.compare(record.value, records[i]!.value)).toBe(0)
          expect(record.appendedMs).toBe(1_700_000_000_000)
        }
      }),
      { numRuns: 50 },
    )
  })

  test('written into other memory it is the same, of the size that was computed, and touches nothing around it', () => {
    fc.assert(
      fc.property(payloads, fc.nat(100), (records, at) => {
        const content = { records, identity, nowMs: 1_700_000_000_000 }
        const alone = packBatch(content, 'none')
        expect(alone.length).toBe(batchBytes(records))
        const out = Buffer.alloc(at + alone.length + 10, 0xee)
        expect(writeBatch(content, out, at)).toBe(at + alone.length)
        expect(out.subarray(at, at + alone.length).equals(alone)).toBe(true)
        expect([...out.subarray(0, at), ...out.subarray(at + alone.length)]).toEqual(
          new Array(at + 10).fill(0xee),
        )
      }),
    )
  })

  test.each([63, 64, 8_191, 8_192, 1_048_575, 1_048_576])(
    'a length of %d, where its own length changes',
    (length) => {
      const records = [{ header: Buffer.alloc(length, 'h'), value: Buffer.alloc(length, 'v') }]
      const batch = storedAt(0, records)
      expect(batch.length).toBe(batchBytes(records))
      const [read] = decodeBatches(batch, 0).records
      expect(read?.header.length).toBe(length)
      expect(read?.value.length).toBe(length)
    },
  )

  test('reading starts at the offset asked for, also inside a batch', () => {
    fc.assert(
      fc.property(payloads, fc.nat(39), (records, skip) => {
        const from = 100 + Math.min(skip, records.length)
        const read = decodeBatches(storedAt(100, records), from)
        expect(read.records.map(({ offset }) => offset)).toEqual(
          records.map((_, i) => 100 + i).filter((offset) => offset >= from),
        )
        expect(read.next).toBe(100 + records.length)
      }),
    )
  })

  test('a batch cut off at the end waits for the next answer', () => {
    const one = storedAt(0, [{ header: Buffer.from('a'), value: Buffer.from('1') }])
    const two = storedAt(1, [{ header: Buffer.from('b'), value: Buffer.from('2') }])
    for (let cut = 0; cut < two.length; cut++) {
      const read = decodeBatches(Buffer.concat([one, two.subarray(0, cut)]), 0)
      expect(read.records).toHaveLength(1)
      expect(read.fault).toBeUndefined()
      expect(read.next).toBe(1)
    }
  })

  test.each([...COMPRESSIONS])('no flipped bit behind the length is ever served (%s)', (compression) => {
    const records = [0, 1, 2].map((i) => ({ header: Buffer.alloc(20, i), value: Buffer.alloc(200, 65 + i) }))
    const good = storedAt(50, records, compression)
    const magicAt = 16
    for (let at = magicAt; at < good.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const bad = Buffer.from(good)
        bad[at] = bad[at]! ^ (1 << bit)
        const read = decodeBatches(bad, 50)
        expect(read.records).toHaveLength(0)
        expect(read.fault?.offset).toBe(50)
      }
    }
  })

  test('a gap in the offsets is a fault, not skipped over', () => {
    const record = { header: Buffer.from('a'), value: Buffer.from('1') }
    const read = decodeBatches(Buffer.concat([storedAt(5, [record]), storedAt(7, [record])]), 5)
    expect(read.records).toHaveLength(1)
    expect(read.fault).toEqual({
      offset: 6,
      reason: 'the next record has offset 7: records between are missing',
    })
  })

  test('a record that lies about its lengths is a fault; what is before it is served', () => {
    const record = { header: new Uint8Array(0), value: Buffer.from('1') }
    const liar = storedAt(6, [record])
    // The header's length, the last byte, says that it goes on.
    liar[liar.length - 1] = 0x80
    liar.writeUInt32BE(crc32c(liar.subarray(21)), 17)
    const read = decodeBatches(Buffer.concat([storedAt(5, [record]), liar]), 5)
    expect(read.records.map(({ offset }) => offset)).toEqual([5])
    expect(read.fault).toEqual({ offset: 6, reason: 'a varint reaches past the end of its batch' })
  })

  test('one record never takes more than the overhead that topics are made with', () => {
    fc.assert(
      fc.property(payload, fc.constantFrom(...COMPRESSIONS), (record, compression) => {
        const size = packBatch({ records: [record], identity, nowMs: 0 }, compression).length
        expect(size).toBeLessThanOrEqual(bytesOf([record]) + RECORD_OVERHEAD_BYTES)
      }),
    )
    const large = { header: Buffer.alloc(2 ** 20), value: Buffer.alloc(2 ** 27) }
    expect(
      packBatch({ records: [large], identity, nowMs: 0 }, 'none').length - 2 ** 27 - 2 ** 20,
    ).toBeLessThan(RECORD_OVERHEAD_BYTES)
  })

  test('compression is left out where it would make a batch larger', () => {
    const noise = crypto.getRandomValues(new Uint8Array(5000))
    const records = [{ header: new Uint8Array(0), value: noise }]
    for (const compression of COMPRESSIONS)
      expect(packBatch({ records, identity, nowMs: 0 }, compression).length).toBeLessThanOrEqual(
        batchBytes(records),
      )
    expect(BATCH_HEAD_BYTES).toBe(61)
  })
})
