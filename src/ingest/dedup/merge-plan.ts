/**
 * Which runs are made one, and when. Pure.
 *
 * Eight neighbours of one level become one of the next, so a claim is written again once per factor of eight, and a
 * look-up asks few filters. No run spans more than an eighth of the window: it expires as a whole, soon after its last
 * claim, and no more than that much of the disk is taken by what has expired. Neighbours that the span keeps from
 * becoming eight are made one as they are.
 */
export type RunAge = {
  level: number
  count: number
  firstMs: number
  lastMs: number
  /** In a merge already. */
  busy: boolean
}

export const MERGE_RUNS_MAX = 8
const SPANS_PER_WINDOW = 8
/** Keeps the largest file below 1.3 GB, and what one merge needs beside its runs as well. */
export const RUN_CLAIMS_MAX = 2 ** 25

/** Indexes [from, to) of the runs, oldest first, that should be made one now; undefined when none should. */
export function nextMerge(
  runs: readonly RunAge[],
  windowMs: number,
): { from: number; to: number } | undefined {
  const spanMaxMs = windowMs / SPANS_PER_WINDOW
  const busyLevels = new Set(runs.filter((run) => run.busy).map((run) => run.level))
  for (let from = 0; from < runs.length; ) {
    const { level, busy } = runs[from]!
    if (busy || busyLevels.has(level)) {
      from++
      continue
    }
    let to = from + 1
    while (to < runs.length && to - from < MERGE_RUNS_MAX && isNeighbour(runs[to]!, level)) {
      if (!fits(runs, from, to + 1, spanMaxMs)) break
      to++
    }
    const size = to - from
    const isClosed = to < runs.length && !fits(runs, from, to + 1, spanMaxMs)
    if (size === MERGE_RUNS_MAX || (size > 1 && isClosed)) return { from, to }
    from = to
  }
  return undefined
}

function isNeighbour(run: RunAge, level: number): boolean {
  return run.level === level && !run.busy
}

function fits(runs: readonly RunAge[], from: number, to: number, spanMaxMs: number): boolean {
  let count = 0
  let firstMs = Number.MAX_SAFE_INTEGER
  let lastMs = 0
  for (let i = from; i < to; i++) {
    const run = runs[i]!
    count += run.count
    firstMs = Math.min(firstMs, run.firstMs)
    lastMs = Math.max(lastMs, run.lastMs)
  }
  return count <= RUN_CLAIMS_MAX && lastMs - firstMs <= spanMaxMs
}
