/**
 * Finds the ids of a batch's visits, in offset order: a pure fold over what is known of the visitors.
 * In: visits, and the rows that were read. Out: the ids of each visit, and the rows to write, each once.
 *
 * A visitor is one person after another. n counts those that were identified, and each n has its own session:
 *
 *   anonymous event      n = identifies              its distinct id is the hash of n
 *   $identify            n = identifies, then +1     joins the hash of n to the person it names
 *   identified event     n = identifies − 1          keeps its distinct id; the session goes on over the $identify
 *
 * Two sessions are enough: those of `identifies` and of the one before, because n never goes back. A count stands
 * where upstream keeps a set of event uuids: there it tells a redelivery, which here has been sorted out before.
 */
import type { Visit } from './judge.ts'
import type { CookielessIds } from './rewrite.ts'
import { deviceIdOf, distinctIdOf, type Visitor } from './visitor.ts'

const SESSION_INACTIVITY_MS = 30 * 60_000

export type Session = { id: string; activeMs: number }

/** A row of cookieless_visitor. */
export type VisitorState = {
  identifies: number
  /** Of n = identifies. */
  currentHash: Buffer
  session: Session | undefined
  /** Of n = identifies − 1. */
  sessionBefore: Session | undefined
  /** Undefined when there is no row. */
  version: number | undefined
}

/** By `visitorKey`. */
export type VisitorStates = ReadonlyMap<string, VisitorState>

export type VisitorWrite = { visitor: Visitor; state: VisitorState }

export type FoundIds = { ids: CookielessIds[]; writes: VisitorWrite[] }

export const NO_STATES: VisitorStates = new Map()

export function visitorKey({ day, teamId, baseHash }: Visitor): string {
  return `${day}:${teamId}:${baseHash.toString('hex')}`
}

/** `ids` is parallel to `visits`. Neither `visits` nor `states` is changed, so it may run again with other states. */
export function findIds(visits: readonly Visit[], states: VisitorStates): FoundIds {
  const working = new Map<string, { visitor: Visitor; state: VisitorState; changed: boolean }>()
  const ids = visits.map(({ visitor, role, timestampMs }) => {
    const key = visitorKey(visitor)
    let work = working.get(key)
    if (!work) {
      work = { visitor, state: { ...(states.get(key) ?? unseen(visitor)) }, changed: false }
      working.set(key, work)
    }
    const { state } = work
    const before = role === 'identified'
    const n = before ? state.identifies - 1 : state.identifies
    const distinctId = distinctIdOf(before ? visitor.hash(n) : state.currentHash)
    const held = before ? state.sessionBefore : state.session
    const session = continued(held, visitor, n, timestampMs)
    if (session !== held) work.changed = true
    if (before) state.sessionBefore = session
    else state.session = session
    if (role === 'identify') {
      state.identifies++
      state.currentHash = visitor.hash(state.identifies)
      state.sessionBefore = session
      state.session = undefined
      work.changed = true
    }
    return {
      mode: 'stateful' as const,
      deviceId: deviceIdOf(visitor.baseHash),
      distinctId,
      sessionId: session.id,
    }
  })
  const writes: VisitorWrite[] = []
  for (const { visitor, state, changed } of working.values()) if (changed) writes.push({ visitor, state })
  return { ids, writes }
}

function unseen({ baseHash }: Visitor): VisitorState {
  return {
    identifies: 0,
    currentHash: baseHash,
    session: undefined,
    sessionBefore: undefined,
    version: undefined,
  }
}

/** The session that goes on, or a new one; the very same object when nothing changes. Activity never moves back. */
function continued(held: Session | undefined, visitor: Visitor, n: number, timestampMs: number): Session {
  if (held === undefined || timestampMs - held.activeMs > SESSION_INACTIVITY_MS) {
    return { id: visitor.sessionId(n, timestampMs), activeMs: timestampMs }
  }
  return timestampMs > held.activeMs ? { id: held.id, activeMs: timestampMs } : held
}
