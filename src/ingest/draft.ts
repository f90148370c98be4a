/** An event on its way through the steps: what was captured, and what it will be stored as. */
import type { PersonProcessing, RawHeader } from '../event/index.ts'
import type { JsonObject } from './identity/types.ts'

/** After `parse`: the raw header and the client's object. */
export type ParsedEvent = {
  readonly header: RawHeader
  readonly body: JsonObject
  readonly properties: JsonObject
}

/** After `normalise`: what the event says, in our shape. */
export type Draft = {
  readonly header: RawHeader
  readonly teamId: number
  readonly name: string
  /** What will be stored, but for the `$group_<n>` that the groups step adds. */
  readonly properties: JsonObject
  readonly set: JsonObject | undefined
  readonly setOnce: JsonObject | undefined
  readonly unset: string[] | undefined
  readonly personProcessing: PersonProcessing
  readonly elementsChain: string
}
