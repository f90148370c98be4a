/** A dead letter and what was decided about it, as the files of this room hand it to each other. */
import type { Source } from '../event/index.ts'

/** `sub` and `step` belong to it: an event may have given several rows, and a state row has a letter of its own. */
export type LetterKey = Source & { step: string }

/** `replaying`: an order to send it again is being worked on. `failed`: such an order could not send it. */
export const LETTER_STATES = ['open', 'replaying', 'replayed', 'failed', 'discarded'] as const
export type LetterState = (typeof LETTER_STATES)[number]

export type Letter = LetterKey & {
  teamId: number
  uuid: string
  event: string
  distinctId: string
  reason: string
  detail: string
  /** When capture received it, epoch ms. */
  atMs: number
  /** Header and value. */
  bytes: number
  /** False for what is no event as captured: a row of a person, or of an event whose raw record was gone. */
  hasRecord: boolean
  state: LetterState
  decision: Decision | undefined
}

export type LetterFilter = {
  teamId?: number
  reason?: string
  step?: string
  event?: string
  distinctId?: string
  uuid?: string
  source?: Source
  /** Received at or after, and before; epoch ms. */
  fromMs?: number
  toMs?: number
}

export type Decision = {
  state: 'planned' | 'sending' | 'replayed' | 'failed' | 'discarded'
  jobId: string | undefined
  by: string
  why: string
  /** Epoch ms. */
  atMs: number
  /** Of one that was sent again: where it is now. */
  sent: { logId: string; partition: number; offset: number } | undefined
  detail: string
  history: unknown[]
}
