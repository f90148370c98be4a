/** An event on its way through the steps: what was captured, and what it will be stored as. */
import type { PersonProcessing, RawHeader } from '../event/index.ts'
import type { JsonObject } from './json.ts'
import type { IngestProject } from './project-options.ts'

/** After `parse`: the raw header, the client's object, and what its project wants. */
export type ParsedEvent = {
  readonly header: RawHeader
  readonly project: IngestProject
  readonly body: JsonObject
  readonly properties: JsonObject
  /** The header's until `person-flag` has looked at it. */
  readonly personProcessing: PersonProcessing
}

/** After `normalise`: what the event says, in our shape. */
export type Draft = {
  readonly header: RawHeader
  readonly project: IngestProject
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
