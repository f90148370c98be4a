/**
 * Tests of a set by cases: an event, and what becomes of it. The same runner on a laptop and in CI, and the same code as
 * in ingest. In: cases as JSON. Out: for each whether it came out so, and if not what differs, a line each.
 */
import { isObject, isSameJson, type Json, type JsonObject, own } from '../event/index.ts'
import { type ChainOutcome, runChain } from './chain.ts'
import { transformError } from './errors.ts'
import type { HostHelpers } from './helpers.ts'
import type { TransformEvent } from './outcome.ts'
import { openSet, type SetDefinition } from './set.ts'

export type TransformCase = {
  readonly name: string
  readonly file: string
  readonly input: TransformEvent
  /** Fields that are absent are as in the input. */
  readonly expected:
    | readonly Partial<Pick<TransformEvent, 'event' | 'distinctId' | 'properties'>>[]
    | 'dropped'
    | 'quarantined'
  /** What `geoip` says, by address. */
  readonly locations: JsonObject
}

export type CaseResult = {
  readonly name: string
  readonly file: string
  /** Empty when it came out as expected. */
  readonly differences: readonly string[]
  readonly logs: readonly string[]
}

const UUID = '01890000-0000-7000-8000-000000000001'
const TIME = '2026-01-01T00:00:00.000Z'
/** `hash` of a case is under this key, so that its values can be written down. */
export const CASE_KEY = 'test'

/** `json` is what stands in `file`: a case, or a list of them. Throws HR_TRANSFORM_SET. */
export function readCases(file: string, json: Json): TransformCase[] {
  return (Array.isArray(json) ? json : [json]).map((one, i) => readCase(file, one, i + 1))
}

function readCase(file: string, json: Json, number: number): TransformCase {
  const wrong = (what: string) => transformError('HR_TRANSFORM_SET', `${file}, case ${number}: ${what}`)
  if (!isObject(json)) throw wrong('it is no object')
  const { input, expected, name = `case ${number}`, locations = {} } = json
  if (!isObject(input)) throw wrong('`input` is no event')
  const {
    event = 'event',
    distinct_id: distinctId = 'person',
    properties = {},
    uuid = UUID,
    timestamp = TIME,
  } = input
  if (typeof event !== 'string' || event === '') throw wrong('`event` of `input` is no text')
  if (typeof distinctId !== 'string' || distinctId === '') throw wrong('`distinct_id` of `input` is no text')
  if (!isObject(properties)) throw wrong('`properties` of `input` is no object')
  const timestampMs = Date.parse(String(timestamp))
  if (!Number.isFinite(timestampMs)) throw wrong('`timestamp` of `input` is no date')
  if (typeof uuid !== 'string' || uuid.length !== UUID.length) throw wrong('`uuid` of `input` is no uuid')
  if (!isObject(locations)) throw wrong('`locations` is no object')
  return {
    name: String(name),
    file,
    input: { uuid, event, distinctId, timestampMs, properties },
    expected: readExpected(expected, wrong),
    locations,
  }
}

function readExpected(json: Json | undefined, wrong: (what: string) => Error): TransformCase['expected'] {
  if (json === 'dropped' || json === 'quarantined') return json
  const events = Array.isArray(json) ? json : [json]
  return events.map((event) => {
    if (!isObject(event)) throw wrong('`expected` is neither events nor `dropped` nor `quarantined`')
    const { event: name, distinct_id: distinctId, properties } = event
    return {
      ...(typeof name === 'string' && { event: name }),
      ...(typeof distinctId === 'string' && { distinctId }),
      ...(isObject(properties) && { properties }),
    }
  })
}

/** Throws what opening the set throws. */
export async function runCases(
  definition: SetDefinition,
  cases: readonly TransformCase[],
): Promise<CaseResult[]> {
  let locations: JsonObject = {}
  const geoip: HostHelpers['geoip'] = (ip) => own(locations, ip) ?? null
  const { steps, close } = await openSet(definition, { key: CASE_KEY, geoip })
  try {
    const results: CaseResult[] = []
    for (const one of cases) {
      locations = one.locations
      const logs: string[] = []
      const [outcome] = await runChain(steps, [one.input], {
        onLog: (step, { text }) => logs.push(`${step}: ${text}`),
      })
      results.push({ name: one.name, file: one.file, differences: differencesOf(one, outcome!), logs })
    }
    return results
  } finally {
    close()
  }
}

function differencesOf({ input, expected }: TransformCase, outcome: ChainOutcome): string[] {
  if (typeof expected === 'string')
    return outcome.kind === expected ? [] : [`expected it to be ${expected}; ${tell(outcome)}`]
  if (outcome.kind !== 'kept')
    return [`expected ${expected.length === 1 ? 'an event' : `${expected.length} events`}; ${tell(outcome)}`]
  if (outcome.events.length !== expected.length)
    return [`expected ${expected.length} events; it became ${outcome.events.length}`]
  return expected.flatMap((wanted, i) => {
    const prefix = expected.length === 1 ? '' : `event ${i + 1}: `
    const all = { event: input.event, distinctId: input.distinctId, properties: input.properties, ...wanted }
    return differences(all, outcome.events[i]!.event).map((line) => prefix + line)
  })
}

/** What became of an event, in words. */
export function tell(outcome: ChainOutcome): string {
  switch (outcome.kind) {
    case 'kept':
      return outcome.events.length === 1 ? 'it was kept' : `it became ${outcome.events.length} events`
    case 'dropped':
      return `${outcome.step} dropped it${outcome.failures.map(({ failure }) => ` (${failure.message})`).join('')}`
    case 'quarantined': {
      const { message, line } = outcome.failure
      return `${outcome.step} failed${line === undefined ? '' : ` in line ${line}`}: ${message}`
    }
  }
}

/** A line for each field and property that differs. */
export function differences(
  one: Pick<TransformEvent, 'event' | 'distinctId' | 'properties'>,
  other: Pick<TransformEvent, 'event' | 'distinctId' | 'properties'>,
): string[] {
  const lines: string[] = []
  if (one.event !== other.event) lines.push(line('event', one.event, other.event))
  if (one.distinctId !== other.distinctId) lines.push(line('distinct_id', one.distinctId, other.distinctId))
  for (const key of new Set([...Object.keys(one.properties), ...Object.keys(other.properties)])) {
    const before = own(one.properties, key)
    const after = own(other.properties, key)
    if (before !== undefined && after !== undefined && isSameJson(sorted(before), sorted(after))) continue
    lines.push(line(`properties.${key}`, before, after))
  }
  return lines
}

/** In which order keys stand says nothing. */
function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted)
  if (!isObject(value)) return value
  const keys = Object.keys(value).sort()
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key]!)]))
}

const SHOWN_MAX = 200

function line(name: string, before: Json | undefined, after: Json | undefined): string {
  return `${name}: ${shown(before)} → ${shown(after)}`
}

function shown(value: Json | undefined): string {
  const text = value === undefined ? '(none)' : JSON.stringify(value)
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX).toWellFormed()}…`
}
