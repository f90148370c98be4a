/** Types for transformations: `import type { TransformFunction } from './headrace'`. Written by `headrace transform init`. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

export type TransformedEvent = {
  event: string
  distinct_id: string
  // biome-ignore lint/suspicious/noExplicitAny: a property is what a client sent
  properties: { [name: string]: any }
}

export type CapturedEvent = TransformedEvent & {
  readonly uuid: string
  /** ISO 8601 in UTC; what `Date.now()` says, too. */
  readonly timestamp: string
}

export type Location = {
  city_name?: string
  subdivision_1_code?: string
  subdivision_1_name?: string
  subdivision_2_code?: string
  subdivision_2_name?: string
  country_code?: string
  country_name?: string
  continent_code?: string
  continent_name?: string
  postal_code?: string
  latitude?: number
  longitude?: number
  accuracy_radius?: number
  time_zone?: string
}

export type Helpers = {
  /** Where an IP address is; null when that is not known. */
  geoip(ip: string): Location | null
  isBot(userAgent: string): boolean
  /** HMAC-SHA256 under the project's key, in hexadecimal. */
  hash(text: string): string
  /** What a table of the set says of a key; null when it says nothing. */
  lookup(table: string, key: string): Json
  /** Seen by `headrace transform test` and `try`. */
  log(...values: unknown[]): void
}

/** The event, several, or nothing to drop it. */
export type TransformFunction = (
  event: CapturedEvent,
  helpers: Helpers,
) => TransformedEvent | TransformedEvent[] | null | undefined
