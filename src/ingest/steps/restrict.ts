/** Sends to the dead letters what a restriction of the project marked at the door; the claim in the dedup index stays. */
import { deadLetter, type Outcome, pass } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'

export function restrict(event: ParsedEvent): Outcome<ParsedEvent> {
  if (event.header.disposition !== 'deadLetter') return pass(event)
  return deadLetter('restricted', 'a dead_letter restriction of the project held when the event was captured')
}
