/**
 * I2, I3, I4 on the output topics themselves, without FINAL: what a reader of `events` accepts is each stored event
 * once, in the order of its raw partition, showing what its id had written by then; every other end state is there as an
 * outcome, dead letters with their bytes. Copies of one source are allowed, as long as a reader can tell them by it.
 */
import type { DeadLetterRow, EventRow, OutcomeRow, Place } from '../../../src/event/index.ts'
import type { Findings } from './findings.ts'
import { type Expected, type Model, placeOf } from './model.ts'
import { isUntouched, wrongAbout } from './transformed.ts'

/** Each list in the order of its topic, one partition after the other. */
export type OutputRows = {
  events: { row: EventRow; prev: Place | undefined }[]
  outcomes: OutcomeRow[]
  deadLetters: DeadLetterRow[]
}

type Sourced = Pick<EventRow, '_log_id' | '_partition' | '_offset'>
const NOBODY = '00000000-0000-0000-0000-000000000000'

const placeOfRow = (row: Sourced) =>
  placeOf({ logId: row._log_id, partition: row._partition, offset: row._offset })

/** Notes what is wrong; gives how many copies there were. */
export function checkRows(model: Model, rows: OutputRows, findings: Findings): { copies: number } {
  const stored = accepted(rows.events, findings)
  const ended = byPlace(rows.outcomes, (row) => `${row.state} ${row.reason}`, 'I2: two outcomes', findings)
  const dead = byPlace(rows.deadLetters, (row) => row.reason, 'I2: two dead letters', findings)
  settleEitherLane(model, stored, findings)
  for (const [place, expected] of model.expected) {
    const row = stored.get(place)
    const outcome = ended.get(place)
    if (row && outcome) findings.note('I2: two end states', place)
    if (!row && !outcome) findings.note('I1: no end state', place)
    const state = row ? 'stored' : (outcome?.state ?? 'nothing')
    const reason = outcome?.reason ?? ''
    findings.expect(
      state === expected.state && reason === expected.reason,
      'I4: another end state than it must have',
      () => `${place} (${state} ${reason} instead of ${expected.state} ${expected.reason})`,
    )
    if (row) checkEvent(place, row, expected, model, findings)
    if (outcome) checkOutcome(place, outcome, expected, model, findings)
    checkDeadLetter(place, dead.get(place), expected, findings)
  }
  for (const place of [...stored.keys(), ...ended.keys(), ...dead.keys()])
    findings.expect(model.expected.has(place), 'from nowhere', () => place)
  return {
    copies: rows.events.length - stored.size + rows.outcomes.length - ended.size,
  }
}

/** What every reader of `events` keeps: `prev` at or before what it has, the source behind it. */
function accepted(events: OutputRows['events'], findings: Findings): Map<string, EventRow> {
  const last = new Map<string, number>()
  const stored = new Map<string, EventRow>()
  for (const { row, prev } of events) {
    const lane = `${row._log_id}/${row._partition}`
    const before = last.get(lane) ?? -1
    if (row._offset <= before) {
      const first = stored.get(placeOfRow(row))
      const isCopy =
        first !== undefined &&
        first.uuid === row.uuid &&
        first.event === row.event &&
        first._config_version === row._config_version
      findings.expect(isCopy, 'I3: out of order, and no copy', () => placeOfRow(row))
      continue
    }
    findings.expect((prev?.offset ?? -1) <= before, 'I1: a gap in the chain', () => placeOfRow(row))
    last.set(lane, row._offset)
    stored.set(placeOfRow(row), row)
  }
  return stored
}

function byPlace<R extends Sourced>(
  rows: readonly R[],
  say: (row: R) => string,
  what: string,
  findings: Findings,
): Map<string, R> {
  const first = new Map<string, R>()
  for (const row of rows) {
    const place = placeOfRow(row)
    const before = first.get(place)
    if (!before) first.set(place, row)
    else findings.expect(say(before) === say(row), what, () => `${place} (${say(before)}, ${say(row)})`)
  }
  return first
}

/** Of the first copies in two lanes the one that came first is stored: which, only the output can tell. */
function settleEitherLane(model: Model, stored: ReadonlyMap<string, EventRow>, findings: Findings): void {
  for (const [claim, firsts] of model.eitherLane) {
    const winners = firsts.filter(({ record }) => stored.has(placeOf(record)))
    const places = () => `${claim} (${firsts.map(({ record }) => placeOf(record)).join(' and ')})`
    findings.expect(winners.length > 0, 'I1: stored from neither lane', places)
    findings.expect(winners.length < 2, 'I2: stored from both lanes', places)
    for (const expected of firsts) if (!winners.includes(expected)) expected.state = 'duplicate'
    for (const expected of winners) expected.state = 'stored'
  }
}

function checkEvent(
  place: string,
  row: EventRow,
  { header, shows, claim }: Expected,
  model: Model,
  findings: Findings,
): void {
  const isItself =
    header !== undefined &&
    row.uuid === header.uuid &&
    row.event === header.event &&
    row.distinct_id === header.distinctId
  findings.expect(isItself, 'stored as another event', () => place)
  const wrong = isUntouched() ? undefined : wrongAbout(row)
  findings.expect(wrong === undefined, 'not what its transformations make of it', () => `${place} (${wrong})`)
  // What a row says after a replay is later, and an event of two lanes has no one order with those of its id.
  if (!shows || row._restamped || model.eitherLane.has(claim ?? '')) return
  const own: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(JSON.parse(row.person_properties) as object))
    if (key.startsWith(`${row.distinct_id}:`)) own[key] = value
  findings.expect(
    Bun.deepEquals(own, shows),
    'I3: the person of an event is not as its id had made it',
    () => `${place} (${row.distinct_id} shows ${JSON.stringify(own)} instead of ${JSON.stringify(shows)})`,
  )
}

function checkOutcome(
  place: string,
  outcome: OutcomeRow,
  { claim }: Expected,
  model: Model,
  findings: Findings,
): void {
  if (outcome.state !== 'duplicate') return
  const [logId = '', partition, offset] = outcome.first_source.split('/')
  // A replay may not find the holder any more.
  if (logId === NOBODY) return
  const holder = model.expected.get(`${logId}/${partition}/${offset}`)
  findings.expect(
    holder !== undefined && holder.claim === claim && holder.state !== 'duplicate',
    'a duplicate of something else',
    () => `${place} (${outcome.first_source})`,
  )
}

function checkDeadLetter(
  place: string,
  dead: DeadLetterRow | undefined,
  { state, reason, record }: Expected,
  findings: Findings,
): void {
  if ((dead !== undefined) !== (state === 'dead_lettered')) {
    findings.note('I4: a dead letter is missing, or is none', place)
    return
  }
  if (!dead) return
  const isWhole =
    dead.reason === reason &&
    Buffer.compare(dead.raw_header, record.header) === 0 &&
    Buffer.compare(dead.raw_value, record.value) === 0
  findings.expect(isWhole, 'a dead letter of another reason or other bytes', () => place)
}
