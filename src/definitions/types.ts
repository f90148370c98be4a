/** What was seen of names in a range of a raw partition, as the files of this room hand it to each other. */

/** JSON's types, and texts that are a date. */
export const PROPERTY_TYPES = ['string', 'datetime', 'number', 'boolean', 'object', 'array', 'null'] as const
export type PropertyType = (typeof PROPERTY_TYPES)[number]

export const PROPERTY_KINDS = ['event', 'person', 'group'] as const
export type PropertyKind = (typeof PROPERTY_KINDS)[number]

/** Times are when capture received the events, epoch ms. */
export type Seen = { volume: number; firstMs: number; lastMs: number }

export type SeenEvent = Seen & { teamId: number; event: string }

export type SeenProperty = Seen & {
  teamId: number
  kind: PropertyKind
  owner: string
  name: string
  types: Partial<Record<PropertyType, number>>
}

export type Range = { logId: string; partition: number; from: number; to: number }

export type Collected = {
  /** Rows that were read. */
  rows: number
  events: SeenEvent[]
  properties: SeenProperty[]
  /** By project: occurrences of names that one step does not hold, or that are too long. */
  eventsBeyond: Map<number, number>
  propertiesBeyond: Map<number, number>
}
