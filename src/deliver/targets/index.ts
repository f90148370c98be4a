/** The kinds of destinations, by name. */
import { deliverError } from '../errors.ts'
import type { TargetKind } from './target.ts'
import { WEBHOOK } from './webhook.ts'

export const TARGET_KINDS: readonly TargetKind[] = [WEBHOOK]

/** Throws HR_DESTINATION_INVALID. */
export function targetKind(kind: string): TargetKind {
  const found = TARGET_KINDS.find((one) => one.kind === kind)
  if (found) return found
  throw deliverError(
    'HR_DESTINATION_INVALID',
    `"${kind}" is not a kind of destination; there are ${TARGET_KINDS.map((one) => one.kind).join(', ')}`,
  )
}
