/** Requests and answers byte for byte as the library writes and reads them. */
import { describe, expect, test } from 'bun:test'
import { produceV9, Reader, Writer } from '@platformatic/kafka'
import fc from 'fast-check'
import { type ProducePart, ProduceRequest, produceAnswers } from './produce-request.ts'

type Plain = { topic: string; partition: number; batch: Uint8Array }

const plain: fc.Arbitrary<Plain> = fc.record({
  topic: fc.constantFrom('raw', 'raw.historical', 'ü'.repeat(70)),
  partition: fc.nat(2 ** 31 - 1),
  batch: fc.uint8Array({ minLength: 1, maxLength: 400 }),
})
const plains = fc.array(plain, { minLength: 1, maxLength: 200 })

function partOf({ topic, partition, batch }: Plain): ProducePart {
  return { topic, partition, bytes: batch.length, write: (out, at) => out.set(batch, at) }
}

function libraryRequest(clientId: string, parts: Plain[], timeoutMs: number): Buffer {
  const byTopic = Map.groupBy(parts, ({ topic }) => topic)
  return Writer.create()
    .appendInt16(0)
    .appendInt16(9)
    .appendInt32(77)
    .appendString(clientId, false)
    .appendTaggedFields()
    .appendString(null)
    .appendInt16(-1)
    .appendInt32(timeoutMs)
    .appendArray([...byTopic], (w, [topic, ofTopic]) => {
      w.appendString(topic).appendArray(ofTopic, (w, { partition, batch }) => {
        w.appendInt32(partition).appendBytes(Buffer.from(batch))
      })
    })
    .appendTaggedFields()
    .prependLength().buffer
}

describe('produce requests', () => {
  test('are the bytes that the library would send, also in memory used before', () => {
    const request = new ProduceRequest('cliënt')
    fc.assert(
      fc.property(plains, fc.nat(2 ** 31 - 1), (parts, timeoutMs) => {
        const frame = request.write(parts.map(partOf), timeoutMs)
        frame.writeInt32BE(77, 8)
        expect(frame.equals(libraryRequest('cliënt', parts, timeoutMs))).toBe(true)
      }),
    )
  })

  test('a copy of a part stays as it is when the memory is used again', () => {
    const request = new ProduceRequest('client')
    const part = (text: string) => partOf({ topic: 't', partition: 0, batch: Buffer.from(text) })
    request.write([part('first'), part('second')], 1)
    const copies = [request.copyOf(0), request.copyOf(1)]
    request.write([part('third'), part('fourth')], 1)
    expect(copies.map(String)).toEqual(['first', 'second'])
    expect(String(request.copyOf(1))).toBe('fourth')
  })

  test('forgotten memory is not written to again', () => {
    const request = new ProduceRequest('client')
    const part = partOf({ topic: 't', partition: 0, batch: Buffer.from('first') })
    const frame = request.write([part], 1)
    const before = Buffer.from(frame)
    request.forget()
    request.write([{ ...part, partition: 5 }], 2)
    expect(frame.equals(before)).toBe(true)
  })
})

const answer = fc.record({
  name: fc.constantFrom('raw', 'raw.historical'),
  partitions: fc.array(
    fc.record({
      index: fc.nat(2 ** 31 - 1),
      code: fc.integer({ min: -1, max: 120 }),
      baseOffset: fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
      errors: fc.array(fc.option(fc.string()), { maxLength: 3 }),
      detail: fc.option(fc.string()),
    }),
    { maxLength: 70 },
  ),
})
type Answer = NonNullable<ReturnType<(typeof answer)['generate']>['value']>

function brokerAnswer(topics: Answer[]): Buffer {
  return Writer.create()
    .appendTaggedFields()
    .appendArray(topics, (w, { name, partitions }) => {
      w.appendString(name).appendArray(partitions, (w, partition) => {
        w.appendInt32(partition.index)
          .appendInt16(partition.code)
          .appendInt64(BigInt(partition.baseOffset))
          .appendInt64(-1n)
          .appendInt64(5n)
          .appendArray(partition.errors, (w, message) => w.appendInt32(3).appendString(message))
          .appendString(partition.detail)
      })
    })
    .appendInt32(0)
    .appendTaggedFields().buffer
}

describe('produce answers', () => {
  test('say what the library reads in them', () => {
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 3 }), (topics) => {
        const bytes = brokerAnswer(topics)
        let read: produceV9.ProduceResponse
        try {
          read = produceV9.parseResponse(1, 0, 9, Reader.from(bytes.subarray(1)))
        } catch (error) {
          read = (error as { response: produceV9.ProduceResponse }).response
        }
        const expected = new Map(
          read.responses.flatMap(({ name, partitionResponses }) =>
            partitionResponses.map((partition) => [
              `${name}/${partition.index}`,
              {
                code: partition.errorCode,
                baseOffset: Number(partition.baseOffset),
                detail: partition.errorMessage ?? undefined,
              },
            ]),
          ),
        )
        expect(produceAnswers(bytes)).toEqual(expected as ReturnType<typeof produceAnswers>)
      }),
    )
  })

  test('fields of later versions are passed over', () => {
    const bytes = brokerAnswer([
      { name: 'raw', partitions: [{ index: 3, code: 0, baseOffset: 9, errors: [], detail: null }] },
    ])
    // In the head of the answer: one field, number 0, of two bytes.
    const later = Buffer.concat([Buffer.from([1, 0, 2, 0xaa, 0xbb]), bytes.subarray(1)])
    expect(produceAnswers(later).get('raw/3')).toEqual({ code: 0, baseOffset: 9, detail: undefined })
  })

  test('one that breaks off is no answer, wherever', () => {
    const bytes = brokerAnswer([
      { name: 'raw', partitions: [{ index: 3, code: 6, baseOffset: 9, errors: ['bad'], detail: 'why' }] },
    ])
    const needed = bytes.length - 5 // throttle time and last tags are not looked at
    for (let cut = 0; cut < needed; cut++)
      expect(() => produceAnswers(bytes.subarray(0, cut))).toThrow(RangeError)
  })
})
