/** Flipped bits: found by the reader, reported with their place, never served, and the neighbours are served. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { readFileSync, writeFileSync } from 'node:fs'
import { segments, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'

setDefaultTimeout(60_000)

const SENT = ['first', 'second', 'third', 'fourth', 'fifth']

describe('corruption', () => {
  test('a bit flipped in any byte of a segment: every offset gives its record or HR_LOG_CORRUPT', () =>
    withDir(async (dir) => {
      await withLog({ dir }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, SENT.slice(0, 2))
        await send(log, SENT.slice(2, 4))
        await send(log, SENT.slice(4))
      })
      const path = segments(dir)[0]!
      const whole = readFileSync(path)
      for (let at = 0; at < whole.length; at++) {
        const flipped = Buffer.from(whole)
        flipped[at]! ^= 1 << (at & 7)
        writeFileSync(path, flipped)
        await withLog({ dir }, async (log) => {
          let bad = 0
          for (let offset = 0; offset < SENT.length; offset++) {
            const result = await texts(log, offset, offset + 1).catch((error) => error)
            if (Array.isArray(result)) expect(result).toEqual([SENT[offset]!])
            else {
              bad++
              expect(result.code).toBe('HR_LOG_CORRUPT')
              expect(result.message).toContain(`topic/0 is damaged at offset ${offset}, byte `)
            }
          }
          // The header of the segment tells what all of it is; a frame holds two records at most.
          if (at < 64) expect(bad).toBe(SENT.length)
          else {
            expect(bad).toBeGreaterThan(0)
            expect(bad).toBeLessThanOrEqual(2)
          }
        })
      }
      writeFileSync(path, whole)
      await withLog({ dir }, async (log) => expect(await texts(log)).toEqual(SENT))
    }))

  test('a reader gives the good records before the damage, then the error, again and again', () =>
    withDir(async (dir) => {
      await withLog({ dir }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, SENT)
        const path = segments(dir)[0]!
        const bytes = readFileSync(path)
        const at = bytes.indexOf('third')
        bytes[at]! ^= 4
        writeFileSync(path, bytes)
        const reader = log.reader({ topic: TOPIC.name, partition: 0, from: 0 })
        const limit = { records: 10, bytes: 1e6 }
        const good = await reader.next(limit)
        expect(good.map((record) => Buffer.from(record.value).toString())).toEqual(SENT.slice(0, 2))
        for (let i = 0; i < 2; i++) {
          const error = await reader.next(limit).catch((reason) => reason)
          expect(error.code).toBe('HR_LOG_CORRUPT')
          expect(error.class).toBe('fatal')
          // Where the record begins: its 12-byte header and the one-byte record header lie before the text.
          expect(error.message).toContain(`at offset 2, byte ${at - 13} of segment 0`)
        }
        expect((await send(log, ['sixth']))[0]!.offset).toBe(5)
        expect(await texts(log, 3)).toEqual(['fourth', 'fifth', 'sixth'])
      })
    }))
})
