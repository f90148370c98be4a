import { expect, setDefaultTimeout, test } from 'bun:test'
import fc from 'fast-check'
import { HeadraceError } from '../../../event/index.ts'
import { judgeEvent } from './judge-event.ts'
import { scanBatch } from './scan-batch.ts'
import { Splicer } from './splice.ts'

setDefaultTimeout(60_000)

const FACTS = {
  token: 't',
  nowMs: Date.parse('2026-11-22T12:00:00Z'),
  sentAtMs: undefined,
  ip: '',
  userAgent: '',
  userAgentSdk: '',
  requestId: '',
  clockTrustMs: 30_000,
  eventBytesMax: 100_000,
}
const SEED = Buffer.from(
  '{"created_at":"2026-11-22T12:00:00Z","batch":[{"event":"é\\u0041","uuid":"0193a7c4-5b1e-7c3a-9d2f-1a2b3c4d5e6f","distinct_id":"d","timestamp":"2026-11-22T12:00:00Z","session_id":"s","options":{"cookieless_mode":true},"properties":{"a":[1,-2.5e3,null,true,{}],"b":"\\"}\\n"}},7]}',
)

test('a damaged body is refused as no JSON exactly when it is none, and what is kept of its events is JSON', () => {
  const edit = fc.tuple(fc.nat(), fc.constantFrom('set', 'insert', 'remove', 'double'), fc.nat(255))
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const splicer = new Splicer('lib', '1')
  let kept = 0
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 3 }), (edits) => {
      const mutated = [...SEED]
      for (const [place, kind, byte] of edits) {
        const at = place % (mutated.length + 1)
        if (kind === 'set') mutated[at] = byte
        else if (kind === 'insert') mutated.splice(at, 0, byte)
        else if (kind === 'remove') mutated.splice(at, 1)
        else mutated.splice(at, 0, ...mutated.slice(at, at + 16))
      }
      const body = Buffer.from(mutated)
      let isJson = true
      try {
        JSON.parse(decoder.decode(body))
      } catch {
        isJson = false
      }
      try {
        for (const [index, candidate] of scanBatch(body, 1000).events.entries()) {
          const judged = judgeEvent(body, candidate, index, FACTS, splicer)
          if ('reason' in judged) continue
          kept++
          const sent = JSON.parse(body.toString('utf8', candidate.start, candidate.end))
          const value = JSON.parse(judged.value.toString())
          expect(value).toMatchObject({ ...sent, properties: sent.properties ?? {} })
        }
        expect(isJson).toBe(true)
      } catch (error) {
        if (!(error instanceof HeadraceError)) throw error
        expect(error.code === 'HR_CAPTURE_NOT_JSON').toBe(!isJson)
      }
    }),
    { numRuns: 10_000 },
  )
  expect(kept).toBeGreaterThan(1000)
})
