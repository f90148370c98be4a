/**
 * Bodies within the default limits that cost as much as a body of their kind can. What comes out: a request each, and
 * what capture does with it up to the log, so that the CPU bound can be held by a test and the figures of the guide can
 * be taken again: `bun test/hostile/worst-bodies.ts`.
 */
import { brotliCompressSync, constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import LZString from 'lz-string'
import { incomingOf, type Sent } from '../../src/capture/decode/incoming.fixture.ts'
import { type DecodeLimits, readPayload } from '../../src/capture/decode/index.ts'
import { rawRecord } from '../../src/capture/produce.ts'
import { scanBody } from '../../src/capture/protocols/v0/scan-body.ts'
import { isRejection, type RequestFacts, validateEvent } from '../../src/capture/validate.ts'
import { readSettings } from '../../src/catalog/index.ts'
import { HeadraceError } from '../../src/event/index.ts'
import type { SendRecord } from '../../src/log/index.ts'

const PARTITIONS = 8
const settings = readSettings({}, {})
export const LIMITS: DecodeLimits = {
  inflatedBytesMax: settings.captureInflatedBytesMax,
  ratioMax: settings.captureRatioMax,
  lz64BytesMax: settings.captureLz64BytesMax,
}

export type WorstBody = { name: string; body: Buffer; sent?: Sent }

/** What capture does with a body before the log gets it; the code of the error when it refuses the whole. */
export async function digest({ body, sent }: WorstBody): Promise<string> {
  try {
    const json = await readPayload(incomingOf(body, sent), LIMITS)
    const scanned = scanBody(json, settings.captureBatchEventsMax, settings.captureBatchValuesMax)
    const records: SendRecord[] = []
    const facts = { ...FACTS }
    for (const [index, candidate] of scanned.events.entries()) {
      const judged = validateEvent(json, candidate, index, facts)
      if (isRejection(judged)) continue
      const value = json.subarray(candidate.start, candidate.end)
      records.push(rawRecord(judged, value, scanned.historical, PARTITIONS))
    }
    return `${records.length} of ${scanned.events.length} events`
  } catch (error) {
    if (error instanceof HeadraceError) return error.code
    throw error
  }
}

const FACTS: RequestFacts = {
  token: 't',
  nowMs: Date.parse('2026-11-22T12:00:00Z'),
  sentAtMs: undefined,
  ip: '127.0.0.1',
  userAgent: '',
  userAgentSdk: '',
  requestId: 'r',
  clockTrustMs: 30_000,
  eventBytesMax: settings.captureEventBytesMax,
}

/** CPU ms of the whole process, the threads that inflate included: the least of `rounds`. */
export async function cpuMsOf(body: WorstBody, rounds: number): Promise<{ ms: number; result: string }> {
  let ms = Number.POSITIVE_INFINITY
  let result = ''
  for (let round = 0; round < rounds; round++) {
    const from = process.cpuUsage()
    result = await digest(body)
    const used = process.cpuUsage(from)
    ms = Math.min(ms, (used.user + used.system) / 1000)
  }
  return { ms, result }
}

const batch = (events: string[]) => Buffer.from(`{"api_key":"t","batch":[${events.join(',')}]}`)
const event = (properties: string) =>
  Buffer.from(`{"api_key":"t","event":"e","distinct_id":"d","properties":${properties}}`)

/** `piece` over and over, as an array or an object of at most `bytes`. */
function filled(open: string, piece: string, close: string, bytes: number): string {
  return (
    open +
    Array(Math.floor(bytes / (piece.length + 1)))
      .fill(piece)
      .join(',') +
    close
  )
}

/** Of 1.2 kB, as browsers send it; no two alike. */
function pageView(n: number): string {
  const properties: Record<string, unknown> = { distinct_id: `user-${n}`, $lib: 'web', $lib_version: '1.4' }
  for (let i = 0; i < 26; i++) properties[`$property_${i}`] = `value ${n * 31 + i} of the page`
  const time = new Date(FACTS.nowMs - n).toISOString()
  return JSON.stringify({ uuid: uuidOf(n), event: '$pageview', properties, timestamp: time })
}

function uuidOf(n: number): string {
  return `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`
}

function pageViews(bytes: number): Buffer {
  const events: string[] = []
  for (let length = 100; length < bytes - 1500; length += events.at(-1)!.length + 1) {
    events.push(pageView(events.length))
  }
  return batch(events)
}

/** Text in which no compression finds much. */
function noise(bytes: number): string {
  let state = 42
  let text = ''
  while (text.length < bytes) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff
    text += String.fromCharCode(35 + ((state >> 16) % 57))
  }
  return text
}

const huffman = (bytes: Buffer) => gzipSync(bytes, { strategy: constants.Z_HUFFMAN_ONLY })
const brotli = (bytes: Buffer) =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } })
const form = (text: string) => Buffer.from(`data=${text}`)
const percent = (bytes: Buffer) => bytes.toString('hex').replace(/../g, '%$&')

/** All of them. Made when called: together they are some 200 MB. */
export function* worstBodies(): Generator<WorstBody> {
  const wire = settings.captureBodyBytesMax - 200
  const inflated = settings.captureInflatedBytesMax - 200
  const lz64 = settings.captureLz64BytesMax - 200
  const events = settings.captureBatchEventsMax

  yield { name: 'page views', body: pageViews(wire) }
  yield { name: 'smallest events', body: batch(Array(events).fill('{"event":"e","distinct_id":"d"}')) }
  yield {
    name: 'smallest events, everything escaped',
    body: batch(Array(events).fill('{"\\u0065vent":"\\u0065","\\u0064istinct_id":"\\u0064"}')),
  }
  yield { name: 'nothing but invalid events', body: batch(Array(events).fill('0')) }
  yield { name: 'zeros `[0,0,…]`', body: event(filled('{"a":[', '0', ']}', wire)) }
  yield { name: 'zeros, at the limit of values', body: event(filled('{"a":[', '0', ']}', 1_999_900)) }
  yield { name: 'members `{"":0,…}`', body: event(filled('{', '"":0', '}', wire)) }
  yield { name: 'empty arrays `[[],…]`', body: event(filled('{"a":[', '[]', ']}', wire)) }
  yield { name: 'numbers of 10 digits', body: event(filled('{"a":[', '1234567890', ']}', wire)) }
  yield {
    name: 'nesting `[[[…]]]`',
    body: event(`{"a":${'['.repeat(wire / 2)}${']'.repeat(wire / 2)}}`),
  }
  yield { name: 'one member again and again', body: batch([filled('{', '"uuid":"a"', '}', wire)]) }
  yield { name: 'the same with escapes', body: batch([filled('{', '"uuid":"\\n"', '}', wire)]) }
  yield { name: 'escaped keys', body: batch([filled('{', '"\\n":0', '}', wire)]) }
  yield { name: 'one string', body: event(`{"a":"${'x'.repeat(wire)}"}`) }
  yield { name: 'one string, not ASCII', body: event(`{"a":"${'é'.repeat(wire / 2)}"}`) }
  yield { name: 'backslashes', body: event(`{"a":"${'\\\\'.repeat(wire / 2)}"}`) }
  yield { name: 'escapes `\\u0041`', body: event(`{"a":"${'\\u0041'.repeat(wire / 6)}"}`) }
  yield { name: 'every other byte escaped', body: event(`{"a":"${'\\nx'.repeat(wire / 3)}"}`) }
  yield { name: 'white space', body: event(`{"a":[${' '.repeat(wire)}]}`) }
  yield { name: 'ampersands', body: form('&'.repeat(wire)) }
  yield { name: 'a form of JSON, every byte escaped', body: form(percent(pageViews(wire / 3))) }
  yield { name: 'base64 of page views', body: Buffer.from(pageViews((wire / 4) * 3).toString('base64')) }
  yield { name: 'what looks like base64 and is none', body: Buffer.from('A'.repeat(wire)) }
  const views = pageViews(inflated)
  const text = event(`{"a":"${noise(inflated)}"}`)
  for (const [kind, pack] of [
    ['gzip', gzipSync],
    ['gzip without matches', huffman],
    ['bare deflate', deflateRawSync],
    ['br', brotli],
    ['zstd', zstdCompressSync],
  ] as const) {
    const hint = kind === 'br' ? 'br' : 'deflate'
    const sent = { headers: { 'content-encoding': hint } }
    yield { name: `${kind} of page views`, body: pack(views), sent }
    yield { name: `${kind} of noise`, body: pack(text), sent }
    yield { name: `${kind} that bursts`, body: pack(Buffer.alloc(4 * inflated, 0x20)), sent }
  }
  const base64Form = form(encodeURIComponent(huffman(views).toString('base64')))
  yield { name: 'a form of base64 of gzip of page views', body: base64Form }
  yield {
    name: 'lz64 of page views',
    body: form(encodeURIComponent(LZString.compressToBase64(pageViews(lz64).toString()))),
  }
  yield {
    name: 'lz64 of noise',
    body: form(encodeURIComponent(LZString.compressToBase64(event(`{"a":"${noise(lz64)}"}`).toString()))),
  }
  yield {
    name: 'lz64 that bursts',
    body: form(encodeURIComponent(LZString.compressToBase64(`{"a":"${'x'.repeat(4 * lz64)}"}`))),
  }
}

if (import.meta.main) {
  for (const body of worstBodies()) await digest(body)
  for (const body of worstBodies()) {
    const { ms, result } = await cpuMsOf(body, 20)
    const size = (body.body.length / 1_048_576).toFixed(2)
    process.stdout.write(`| ${body.name} | ${size} | ${result} | ${ms.toFixed(0)} |\n`)
  }
}
