/** The kinds of destinations, by name. */
import { deliverError } from '../errors.ts'
import { AMPLITUDE, GA4, MIXPANEL } from './analytics.ts'
import { DISCORD, SLACK } from './chat.ts'
import { CLICKHOUSE } from './clickhouse.ts'
import { BRAZE, CUSTOMERIO, HUBSPOT } from './crm.ts'
import { KAFKA } from './kafka.ts'
import { POSTGRES } from './postgres.ts'
import { POSTHOG } from './posthog.ts'
import { REST } from './rest.ts'
import { S3 } from './s3.ts'
import { SEGMENT } from './segment.ts'
import type { TargetKind } from './target.ts'
import { WEBHOOK } from './webhook.ts'

export const TARGET_KINDS: readonly TargetKind[] = [
  WEBHOOK,
  REST,
  SLACK,
  DISCORD,
  SEGMENT,
  POSTHOG,
  AMPLITUDE,
  MIXPANEL,
  GA4,
  HUBSPOT,
  CUSTOMERIO,
  BRAZE,
  CLICKHOUSE,
  S3,
  POSTGRES,
  KAFKA,
]

/** Throws HR_DESTINATION_INVALID. */
export function targetKind(kind: string): TargetKind {
  const found = TARGET_KINDS.find((one) => one.kind === kind)
  if (found) return found
  throw deliverError(
    'HR_DESTINATION_INVALID',
    `"${kind}" is not a kind of destination; there are ${TARGET_KINDS.map((one) => one.kind).join(', ')}`,
  )
}
