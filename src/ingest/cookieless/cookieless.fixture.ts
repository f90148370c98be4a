/** What the tests of this folder share: cookieless events by a few words, and salts that are known. */
import { plainHeader } from '../../../test/support/raw-header.ts'
import type { RawHeader } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import type { JsonObject } from '../json.ts'
import { type IngestProject, type ProjectOptions, withDefaults } from '../project-options.ts'
import { openDays } from './calendar-day.ts'
import { type Judged, type JudgeFacts, judge, type Visit } from './judge.ts'
import type { DaySalts } from './salts.ts'
import { COOKIELESS_DISTINCT_ID } from './visitor.ts'

export const NOON = Date.UTC(2026, 2, 10, 12)
export const MINUTE_MS = 60_000
export const HOUR_MS = 60 * MINUTE_MS

export function projectIn(
  cookieless: ProjectOptions['cookieless'],
  teamId = 1,
  timezone = 'UTC',
): IngestProject {
  return { teamId, options: withDefaults({ cookieless, timezone }) }
}

export const STATEFUL: IngestProject = projectIn('stateful')
export const STATELESS: IngestProject = projectIn('stateless')

/** The same salts for the same days in every test: 16 times the day of the month. */
export function saltsAt(nowMs: number): DaySalts {
  return new Map(openDays(nowMs).map((day) => [day, new Uint8Array(16).fill(Number(day.slice(8)))]))
}

export function factsAt(nowMs: number): JudgeFacts {
  return { enabled: true, nowMs, salts: saltsAt(nowMs) }
}

let serial = 0

/** A pageview of a visitor without a name at NOON, in STATEFUL; `properties` are added, undefined removes one. */
export function cookieless(
  properties: { [key: string]: unknown } = {},
  header: Partial<RawHeader> = {},
  body: JsonObject = {},
): ParsedEvent {
  serial++
  const all = {
    $cookieless_mode: true,
    $host: 'www.example.com',
    $raw_user_agent: 'Test User Agent',
    $current_url: 'https://www.example.com/a',
    ...properties,
  }
  return {
    header: plainHeader({
      token: 'phc_test',
      distinctId: COOKIELESS_DISTINCT_ID,
      event: '$pageview',
      uuid: `00000000-0000-4000-8000-${serial.toString(16).padStart(12, '0')}`,
      timestampMs: NOON,
      ip: '1.2.3.4',
      userAgent: 'Test User Agent',
      cookieless: true,
      ...header,
    }),
    project: STATEFUL,
    personProcessing: 'on',
    body,
    properties: Object.fromEntries(
      Object.entries(all).filter(([, value]) => value !== undefined),
    ) as JsonObject,
  }
}

/** Of an event that goes on. */
export function judged(event: ParsedEvent, project = STATEFUL, nowMs = NOON): Judged {
  const outcome = judge({ ...event, project }, factsAt(nowMs))
  if (outcome.kind !== 'pass') throw new Error(`the event was not passed but ${JSON.stringify(outcome)}`)
  return outcome.value
}

export function visitOf(event: ParsedEvent, nowMs = NOON): Visit {
  return judged(event, STATEFUL, nowMs).visit!
}

export function identify(distinctId: string, properties = {}, header: Partial<RawHeader> = {}): ParsedEvent {
  return cookieless(
    { $anon_distinct_id: COOKIELESS_DISTINCT_ID, ...properties },
    { event: '$identify', distinctId, ...header },
  )
}
