/** Counts of dead letters by project, reason, step and state, each with its first sample; and the newest letters. */
import type { Letter } from './letter.ts'

export type LetterGroup = {
  teamId: number
  reason: string
  step: string
  state: Letter['state']
  count: number
  bytes: number
  /** Without a raw record: cannot be sent again. */
  withoutRecord: number
  firstMs: number
  lastMs: number
  /** The first one received. */
  sample: Letter
}

export type Survey = { total: number; replayable: number; groups: LetterGroup[]; newest: Letter[] }

/** Holds one entry per group and at most twice `newestMax` letters. */
export async function survey(pages: AsyncIterable<Letter[]>, newestMax: number): Promise<Survey> {
  const groups = new Map<string, LetterGroup>()
  let newest: Letter[] = []
  const trim = () => {
    newest = newest.sort((a, b) => b.atMs - a.atMs || b.offset - a.offset).slice(0, newestMax)
  }
  for await (const page of pages) {
    for (const letter of page) {
      addTo(groups, letter)
      newest.push(letter)
      if (newest.length >= 2 * newestMax + 1) trim()
    }
  }
  trim()
  const all = [...groups.values()].sort((a, b) => b.count - a.count)
  const total = all.reduce((sum, { count }) => sum + count, 0)
  const withoutRecord = all.reduce((sum, group) => sum + group.withoutRecord, 0)
  return { total, replayable: total - withoutRecord, groups: all, newest }
}

function addTo(groups: Map<string, LetterGroup>, letter: Letter): void {
  const { teamId, reason, step, state } = letter
  const key = `${teamId}\n${reason}\n${step}\n${state}`
  const group = groups.get(key)
  if (!group) {
    groups.set(key, {
      teamId,
      reason,
      step,
      state,
      count: 1,
      bytes: letter.bytes,
      withoutRecord: letter.hasRecord ? 0 : 1,
      firstMs: letter.atMs,
      lastMs: letter.atMs,
      sample: letter,
    })
    return
  }
  group.count++
  group.bytes += letter.bytes
  if (!letter.hasRecord) group.withoutRecord++
  if (letter.atMs < group.firstMs) {
    group.firstMs = letter.atMs
    group.sample = letter
  }
  group.lastMs = Math.max(group.lastMs, letter.atMs)
}
