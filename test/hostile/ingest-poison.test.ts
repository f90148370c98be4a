/** The poison corpus through the steps, one by one, and through the whole of ingest, all at once. */
import { afterEach, describe, expect, setDefaultTimeout, setSystemTime, test } from 'bun:test'
import {
  describeOutcome,
  EVENTS,
  encodeRawHeader,
  INGESTION_WARNINGS,
  OUTCOMES,
  type RawHeader,
  TOPICS,
  viewOf,
} from '../../src/event/index.ts'
import { outcomeCode, type Slot } from '../../src/ingest/batch.ts'
import type { Draft, ParsedEvent } from '../../src/ingest/draft.ts'
import type { Stamp } from '../../src/ingest/identity/index.ts'
import { Pipeline, TOKEN, WITHIN_MS } from '../../src/ingest/pipeline.fixture.ts'
import { withDefaults } from '../../src/ingest/project-options.ts'
import { packEventRow } from '../../src/ingest/row.ts'
import { identityRequest } from '../../src/ingest/steps/identity-request.ts'
import { EVENT_STEPS } from '../../src/ingest/steps/index.ts'
import { normalise } from '../../src/ingest/steps/normalise.ts'
import { parseEvent } from '../../src/ingest/steps/parse.ts'
import { HEADER, rawRecord, throughSteps, typesOf } from '../../src/ingest/steps/steps.fixture.ts'
import { POISON, type Poison } from './ingest-poison.ts'

setDefaultTimeout(WITHIN_MS * 4)

const OPTIONS = [{}, { anonymizeIps: true, personProcessing: 'off' }] as const
const uuidOf = (place: number) => `018f4b2e-0000-7000-8000-${String(place).padStart(12, '0')}`
const stamp: Stamp = {
  personUuid: uuidOf(0),
  personCreatedAtMs: 5_000,
  personPropertiesJson: '{}',
  mode: 'full',
  groups: [{ index: 0, key: 'k', propertiesJson: '{}', createdAtMs: 0 }],
  warnings: [],
}

function rawOf(poison: Poison, place: number) {
  const record = rawRecord(poison.json, { uuid: uuidOf(place), ...poison.header }, place)
  return poison.headerBytes ? { ...record, header: poison.headerBytes } : record
}

function endOf(code: number): Poison['end'] {
  const { state, reason } = describeOutcome(code)
  if (state === 'dropped') return { drop: reason }
  return state === 'dead_lettered' ? { deadLetter: reason } : 'stored'
}

describe('through the steps', () => {
  test('the names are told apart', () => {
    expect(new Set(POISON.map(({ name }) => name)).size).toBe(POISON.length)
  })

  test.each(POISON.map((poison) => [poison.name, poison] as const))('%s', (_, poison) => {
    const neighbour = (place: number) =>
      rawRecord({ properties: { a: place } }, { uuid: uuidOf(place) }, place)
    const slots = throughSteps([neighbour(0), rawOf(poison, 1), neighbour(2)])
    expect(endOf(outcomeCode(slots[1]!))).toEqual(poison.end)
    expect(typesOf(slots[1]!)).toEqual(poison.warnings ?? [])
    expect([slots[0]!.draft?.properties, slots[2]!.draft?.properties]).toEqual([{ a: 0 }, { a: 2 }])
    expect(({} as { x?: unknown }).x).toBeUndefined()
  })

  test('no step changes what it is given', () => {
    for (const options of OPTIONS) for (const poison of POISON) expectUnchanged(poison, withDefaults(options))
  })
})

function expectUnchanged(poison: Poison, options: ReturnType<typeof withDefaults>): void {
  const header: RawHeader = Object.freeze({ ...HEADER, ip: '203.0.113.7', sentAtMs: 1, ...poison.header })
  const value = Buffer.from(poison.json)
  const parsed = parseEvent(header, { teamId: 7, options }, value)
  expect(value.equals(Buffer.from(poison.json))).toBe(true)
  if (parsed.kind !== 'pass') return
  // In strict mode a write to what is frozen throws.
  let event: ParsedEvent = deepFreeze(parsed.value)
  for (const [, run] of EVENT_STEPS) {
    const outcome = run(event)
    if (outcome.kind !== 'pass') return
    event = deepFreeze(outcome.value)
  }
  const outcome = normalise(event)
  if (outcome.kind !== 'pass') return
  const draft: Draft = deepFreeze(outcome.value)
  identityRequest(draft)
  packEventRow(draft, deepFreeze(stamp), { logId: uuidOf(9), partition: 0, offset: 0, sub: 0 }, ROW)
}

const ROW = { historical: false, configVersion: 1, restamped: false }

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value) || value instanceof Set)
    return value
  Object.freeze(value)
  for (const member of Object.values(value)) deepFreeze(member)
  return value
}

describe('no clock', () => {
  afterEach(() => {
    setSystemTime()
  })

  test('the same records and state give the same bytes, today and in a year', () => {
    const records = POISON.map(rawOf)
    const bytesAt = (date: string) => {
      setSystemTime(new Date(date))
      return throughSteps(records, { dropEventsOlderThanSeconds: 3600 }).map(bytesOf)
    }
    expect(bytesAt('2027-11-22T12:00:00Z')).toEqual(bytesAt('2026-11-22T12:00:00Z'))
  })

  function bytesOf(slot: Slot): string {
    const source = { logId: uuidOf(9), partition: 0, offset: slot.record.offset, sub: 0 }
    const row = slot.draft && packEventRow(slot.draft, stamp, source, ROW)
    const asked = slot.draft && identityRequest(slot.draft)
    return Bun.hash(
      JSON.stringify([outcomeCode(slot), slot.warnings, asked, row && viewOf(row).toString('base64')]),
    ).toString()
  }
})

describe('through the whole of ingest', () => {
  const pipeline = new Pipeline()

  test('each ends where it should, its neighbours are stored, and every property can be read', async () => {
    const producer = pipeline.log.producer({ name: 'capture', deadlineMs: 10_000 })
    let place = 0
    const send = async (poison: Poison) => {
      // Ids of their own: one of them must not join the persons of the others.
      const header = encodeRawHeader({
        ...HEADER,
        distinctId: `d${place}`,
        uuid: uuidOf(place),
        ...poison.header,
        token: poison.header?.token ?? TOKEN,
      })
      const value = Buffer.from(poison.json)
      await producer.send([{ topic: TOPICS.raw, partition: 0, header: poison.headerBytes ?? header, value }])
      place++
    }
    const neighbour: Poison = { name: 'neighbour', json: '{"properties":{"neighbour":1}}', end: 'stored' }
    const sent = POISON.flatMap((poison, i) => (i % 10 === 0 ? [poison, neighbour] : [poison]))
    for (const poison of sent) await send(poison)
    await producer.close()

    const storedCount = sent.filter(({ end }) => end === 'stored').length
    const deadCount = sent.filter(({ end }) => typeof end === 'object' && 'deadLetter' in end).length
    expect(await pipeline.ingested(sent.length)).toEqual({ stored: storedCount, dead: deadCount })

    const ends = new Map<number, Poison['end']>()
    for (const row of await pipeline.rowsOf(TOPICS.outcomes)) {
      const { _offset, state, reason } = OUTCOMES.decode(row)
      ends.set(_offset, state === 'dropped' ? { drop: reason } : { deadLetter: reason })
    }
    for (const row of await pipeline.rowsOf(TOPICS.events)) {
      const { _offset, properties } = EVENTS.decode(row)
      ends.set(_offset, 'stored')
      // ClickHouse reads no property at all of a text that holds half a character.
      expect(properties).not.toMatch(/(?<!\\)(?:\\\\)*\\u(?:d[89a-f]|0000)/i)
    }
    for (const [offset, { name, end }] of sent.entries())
      expect([name, ends.get(offset)]).toEqual([name, end])

    const told = new Map<number, string[]>()
    for (const row of await pipeline.rowsOf(TOPICS.ingestionWarnings)) {
      const { _offset, type } = INGESTION_WARNINGS.decode(row)
      told.set(_offset, [...(told.get(_offset) ?? []), type])
    }
    for (const [offset, { name, warnings = [] }] of sent.entries()) {
      expect([name, told.get(offset) ?? []]).toEqual([name, expect.arrayContaining(warnings)])
    }
  })
})
