/**
 * An event as a protocol found it in a body: where its bytes are, and the members that capture looks at, as sent and
 * not yet judged. Protocols make candidates; `validate.ts` judges them.
 */
import type { JsonPick } from '../event/index.ts'

/** The name under which posthog-js of 2021 sends the browser's timings; nobody keeps them. */
export const PERFORMANCE_EVENT = '$performance_event'

/** All members start undefined, which is "not there"; always in this order, so that every candidate has one shape. */
export class EventCandidate {
  /** Levels of nesting, the event itself counting as 1. */
  depth = 1
  /** Members of the event and of all objects in it. */
  keys = 0
  isObject = true
  event: JsonPick | undefined = undefined
  /** First of `api_key`, `token`, `$token` in the order of `tokenOf`. */
  apiKey: JsonPick | undefined = undefined
  token: JsonPick | undefined = undefined
  dollarToken: JsonPick | undefined = undefined
  distinctId: JsonPick | undefined = undefined
  dollarDistinctId: JsonPick | undefined = undefined
  uuid: JsonPick | undefined = undefined
  timestamp: JsonPick | undefined = undefined
  offset: JsonPick | undefined = undefined
  /** The client's clock when it sent, in the event itself. */
  sentAt: JsonPick | undefined = undefined
  /** What `properties` is; its members of interest are the `own…` fields. */
  properties: 'absent' | 'object' | 'other' = 'absent'
  set: 'absent' | 'object' | 'null' | 'other' = 'absent'
  setOnce: 'absent' | 'object' | 'null' | 'other' = 'absent'
  ownDistinctId: JsonPick | undefined = undefined
  ownToken: JsonPick | undefined = undefined
  ownProcessPersonProfile: JsonPick | undefined = undefined
  ownCookielessMode: JsonPick | undefined = undefined
  ownIgnoreSentAt: JsonPick | undefined = undefined
  ownLib: JsonPick | undefined = undefined
  ownLibVersion: JsonPick | undefined = undefined
  /** True when there is a `capture_internal` of any value: the client's address says nothing. */
  ownCaptureInternal = false

  /** The event's bytes are `start … end` of the body. */
  constructor(
    readonly start: number,
    public end = start,
  ) {}

  /** `properties` came again: the last one counts, so what was picked from the one before is forgotten. */
  clearProperties(): void {
    this.ownDistinctId = undefined
    this.ownToken = undefined
    this.ownProcessPersonProfile = undefined
    this.ownCookielessMode = undefined
    this.ownIgnoreSentAt = undefined
    this.ownLib = undefined
    this.ownLibVersion = undefined
    this.ownCaptureInternal = false
  }
}

/** The token that the event names itself, if it is a string. */
export function tokenOf({ apiKey, token, dollarToken, ownToken }: EventCandidate): string | undefined {
  if (typeof apiKey === 'string') return apiKey
  if (typeof token === 'string') return token
  if (typeof dollarToken === 'string') return dollarToken
  return typeof ownToken === 'string' ? ownToken : undefined
}
