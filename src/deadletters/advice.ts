/** What a person can do about a dead letter, by its reason; and whether sending it again can help. */
import type { DeadLetterReason } from '../event/index.ts'

const ADVICE: Record<DeadLetterReason, string> = {
  unreadable_record:
    'Its header was written by another version of capture. Bring ingest to that version, then replay.',
  unreadable_event:
    'The client sent something that is no event; sent again it ends here again, unless this version reads what the one before did not. Mend the client, then discard.',
  event_too_large:
    'The event with the properties of its person and groups is larger than a record may be. Unset large properties of the person, then replay.',
  refused_by_state:
    'Postgres refuses a value of this event; `detail` says which. Sent again it ends here again, unless Postgres was changed.',
  refused_by_warehouse:
    'ClickHouse refused its row; `detail` says why. Mend that (a changed table, a limit), then replay. What it did to its person stands, and is done once more by a replay.',
  restricted:
    'A restriction of the project sent it here (`headrace project policy`). A replay lets it in, whatever the restriction says today.',
  transformation_failed:
    'A transformation of the project failed on it; `detail` says which, of which version, and why. Mend it and publish it (`headrace transform publish`), then replay.',
}

const NO_RECORD =
  'This is no event as it was captured but a row made of one, so that it cannot be sent again. A row of a person or a group is written anew with its next change.'

export function adviceOf(letter: { reason: string; hasRecord: boolean }): string {
  if (!letter.hasRecord) return NO_RECORD
  return ADVICE[letter.reason as DeadLetterReason] ?? 'A reason of another version.'
}
