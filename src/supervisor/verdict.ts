/**
 * What the supervisor decides about a child: pure functions over plain numbers. The clock, the dice and the process
 * are in `child.ts`.
 */
import { backoffMs } from '../platform/index.ts'

/** First delay before a dead child is started again; it doubles with every death in a row. */
export const RESTART_FIRST_MS = 200
/** No delay is longer: a dependency that came back must find its children soon. */
export const RESTART_MS_MAX = 5_000
/** A child that was healthy for so long has paid for its earlier deaths. */
export const FORGIVEN_AFTER_MS = 30_000
/** A child that has not answered for so long is hung, and killed. */
export const SILENT_MS_MAX = 10_000
/** From its start to its first answer. Longer than the silence allowed later: a cold disk has to load the programs. */
export const STARTING_MS_MAX = 30_000
/**
 * So many questions must have gone unanswered besides: when the whole machine was asleep or the supervisor itself was
 * paused, time has passed but nobody was asked.
 */
export const UNANSWERED_MIN = 4

/** Delay before start number `deaths + 1`. */
export function restartDelayMs(deaths: number, random?: number): number {
  return Math.round(backoffMs(deaths, { firstMs: RESTART_FIRST_MS, maxMs: RESTART_MS_MAX }, random))
}

export type ChildView = {
  state: 'starting' | 'healthy'
  /** Since its last answer; since its start when there was none. */
  silentMs: number
  /** Questions since its last answer that had none. */
  unanswered: number
  /** Since it became healthy; 0 while starting. */
  healthyMs: number
}

/** `kill`: hung. `forgive`: its earlier deaths do not count any more. `keep`: nothing to do. */
export type Verdict = 'keep' | 'kill' | 'forgive'

export function judgeChild(view: ChildView): Verdict {
  const limit = view.state === 'starting' ? STARTING_MS_MAX : SILENT_MS_MAX
  if (view.silentMs >= limit && view.unanswered >= UNANSWERED_MIN) return 'kill'
  if (view.state === 'healthy' && view.healthyMs >= FORGIVEN_AFTER_MS) return 'forgive'
  return 'keep'
}

/**
 * How the time for a stop is shared: each of the `left` children that still have to stop one after the other may take
 * an equal part of what remains, so that one that hangs cannot take the time of those behind it.
 */
export function stopShareMs(remainingMs: number, left: number): number {
  return Math.max(0, Math.floor(remainingMs / Math.max(1, left)))
}
