/** How long a partition waits before it is opened again, by what ended it. Pure. */
import { type Backoff, backoffMs } from '../platform/index.ts'

const BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 }
/**
 * Whoever opens a partition takes it from its owner. One that has lost it, and has not heard so from its group, must
 * not take it back at once: by then it has mostly heard.
 */
const FENCED_MS = 2_000

/** A random part of it, so that two who both think it theirs do not meet for ever. `random` is from 0 to 1. */
export function reopenMs(code: string | undefined, failures: number, random = Math.random()): number {
  if (code === 'HR_INGEST_FENCE') return FENCED_MS * (0.5 + random)
  return backoffMs(failures, BACKOFF, random)
}
