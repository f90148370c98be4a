/**
 * Persons that other processes change at the same time as this one: a batch that has one of them takes its locks before
 * it folds, so that nothing is folded twice. Learnt from what had changed between a batch's read and its locks, and
 * forgotten after as many batches that found nothing changed. For economy alone: whoever is missing here meets a
 * conflict, whoever stands here needlessly costs a few locks.
 */
import { isFull, type PersonRow } from './snapshot.ts'

const PERSONS_MAX = 1_000
const GAIN = 2
const CREDIT_MAX = 16

export class Contended {
  /** By id, the one that changed longest ago first. */
  private readonly credits = new Map<number, number>()

  /** Those of `persons` whose properties a batch wants. */
  among(persons: ReadonlyMap<number, PersonRow>): Set<number> {
    const found = new Set<number>()
    for (const id of this.credits.keys()) if (isFull(persons.get(id))) found.add(id)
    return found
  }

  /** `expected` were thought contended, `moved` had indeed changed. */
  learn(expected: Iterable<number>, moved: ReadonlySet<number>): void {
    for (const id of expected) {
      if (moved.has(id)) continue
      const credit = (this.credits.get(id) ?? 0) - 1
      if (credit > 0) this.credits.set(id, credit)
      else this.credits.delete(id)
    }
    for (const id of moved) {
      const credit = this.credits.get(id) ?? 0
      this.credits.delete(id)
      this.credits.set(id, Math.min(CREDIT_MAX, credit + GAIN))
    }
    for (const id of this.credits.keys()) {
      if (this.credits.size <= PERSONS_MAX) break
      this.credits.delete(id)
    }
  }
}
