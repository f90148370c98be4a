/**
 * What the receipt keeps of a batch's cookieless events until the log has them: their ids. A replay cannot find these
 * again: the day's salt may be deleted, the visitor has moved on, the project may have another mode. It is part of the
 * outbox, so it goes when the outbox goes. Events of one visitor share an entry: about 150 bytes for each session.
 */
import { describeOutcome, type Outcome, type OutcomeCode, pass } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { isCookieless, type Judged, refuse } from './judge.ts'
import { type CookielessIds, removePersonalData } from './rewrite.ts'

/** JSON in the outbox; `at` are offsets behind the batch's first. */
export type NotedIds = CookielessIds & { at: number[] }

/** `events` are the batch's stored cookieless events, in offset order. */
export function noteIds(
  events: readonly { offset: number; ids: CookielessIds }[],
  fromOffset: number,
): NotedIds[] {
  const entries = new Map<string, NotedIds>()
  for (const { offset, ids } of events) {
    const key = `${ids.mode} ${ids.deviceId} ${ids.distinctId} ${ids.sessionId}`
    const entry = entries.get(key)
    if (entry) entry.at.push(offset - fromOffset)
    else entries.set(key, { ...ids, at: [offset - fromOffset] })
  }
  return [...entries.values()]
}

/** By offset. */
export function readNote(note: readonly NotedIds[], fromOffset: number): Map<number, CookielessIds> {
  const ids = new Map<number, CookielessIds>()
  for (const { at, ...entry } of note) for (const place of at) ids.set(fromOffset + place, entry)
  return ids
}

/**
 * `judge` for a replay: what was stored gets the ids it had, what was dropped is dropped for the reason that it had,
 * with the same warning. Neither salts nor the clock nor the project's settings are asked.
 */
export function judgeAgain(
  event: ParsedEvent,
  ids: CookielessIds | undefined,
  code: OutcomeCode,
): Outcome<Judged> {
  if (!isCookieless(event)) return pass({ event })
  if (ids) return pass({ event: removePersonalData(event), ids })
  const { state, reason } = describeOutcome(code)
  if (state === 'dropped') return refuse(reason as Parameters<typeof refuse>[0], event.header)
  return pass(withoutIds(event))
}

/**
 * A cookieless event that was stored, but whose ids nobody can find any more: it speaks of no person, else all such
 * events would be of one.
 */
export function withoutIds(event: ParsedEvent): Judged {
  return { event: { ...removePersonalData(event), personProcessing: 'forcedOff' } }
}
