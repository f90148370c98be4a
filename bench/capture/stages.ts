/** The stages of capture one by one, without HTTP and log: CPU microseconds per event, after warming up. */
import { gunzipSync, gzipSync } from 'node:zlib'
import type { EventCandidate } from '../../src/capture/candidate.ts'
import { rawRecord } from '../../src/capture/produce.ts'
import { scanBody } from '../../src/capture/protocols/v0/scan-body.ts'
import { isRejection, validateEvent } from '../../src/capture/validate.ts'
import { uuidV7 } from '../../src/event/index.ts'
import { BATCH_EVENTS, batchBody, TOKEN } from './bodies.ts'

const PARTITIONS = 8

/** CPU microseconds per event of each pure stage, after warming up. */
export function stages(): [string, number][] {
  const body = batchBody()
  const packed = gzipSync(body)
  const facts = {
    token: TOKEN,
    nowMs: Date.now(),
    sentAtMs: Date.now(),
    ip: '127.0.0.1',
    userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)',
    userAgentSdk: '',
    requestId: uuidV7(Date.now()),
    clockTrustMs: 30_000,
    eventBytesMax: 1_000_000,
  }
  const { events } = scanBody(body, BATCH_EVENTS)
  const headers = events.map((candidate, index) => {
    const judged = validateEvent(body, candidate, index, facts)
    if (isRejection(judged)) throw new Error(judged.message)
    return judged
  })
  const value = body.subarray(0, 1200)
  const time = (work: () => void): number => {
    const rounds = 4000
    for (let i = 0; i < rounds; i++) work()
    const from = process.cpuUsage()
    for (let i = 0; i < rounds; i++) work()
    const used = process.cpuUsage(from)
    return (used.user + used.system) / rounds / BATCH_EVENTS
  }
  return [
    ['inflate', time(() => void gunzipSync(packed, { maxOutputLength: 1e8 }))],
    ['(JSON.parse of the body, to compare)', time(() => void JSON.parse(body.toString('utf8')))],
    ['scan', time(() => void scanBody(body, BATCH_EVENTS))],
    [
      'validate',
      time(() => {
        for (let i = 0; i < events.length; i++) validateEvent(body, events[i] as EventCandidate, i, facts)
      }),
    ],
    [
      'header and partition',
      time(() => {
        for (const header of headers) rawRecord(header, value, false, PARTITIONS)
      }),
    ],
  ]
}
