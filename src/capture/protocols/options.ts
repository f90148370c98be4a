/** What every protocol that takes events is given. */
import type { DecodeLimits } from '../decode/index.ts'
import type { Intake } from '../intake.ts'

/** The limits of one request, each of them a setting. */
export type RequestLimits = DecodeLimits & {
  batchEventsMax: number
  batchValuesMax: number
  eventBytesMax: number
  eventDepthMax: number
  eventKeysMax: number
}

export type ProtocolOptions = {
  intake: Intake
  limits: RequestLimits
  clockTrustMs: number
}
