/**
 * What a built-in transformation is: options that a JSON Schema describes (it checks them when a set is published, and
 * makes the guide's table), and a function of one event. What must hold for each: it does not change what it is given,
 * it gives back the very same event when there is nothing to do, and it takes at most 3 µs (`geoip` 6).
 */
import type { BuiltIn } from '../chain.ts'
import type { HostHelpers } from '../helpers.ts'
import type { FailurePolicy } from '../outcome.ts'

export type OptionSchema = { readonly [keyword: string]: unknown }

export type BuiltInKind = {
  readonly does: string
  /** Of `options`; what has a `default` is filled in before `make`. */
  readonly properties: Readonly<Record<string, OptionSchema>>
  readonly required?: readonly string[]
  readonly make: (options: never, helpers: HostHelpers) => BuiltIn
  /** Where the options say what becomes of an event that it refuses. */
  readonly policyOf?: (options: never) => FailurePolicy
}

/** Keeps the types of options and `make` together. */
export function builtIn<Options>(kind: {
  does: string
  properties: { readonly [Name in keyof Required<Options>]: OptionSchema }
  required?: readonly (keyof Options & string)[]
  make: (options: Options, helpers: HostHelpers) => BuiltIn
  policyOf?: (options: Options) => FailurePolicy
}): BuiltInKind {
  return kind as unknown as BuiltInKind
}

export const NAMES = {
  type: 'array',
  items: { type: 'string', minLength: 1, maxLength: 400 },
  minItems: 1,
  maxItems: 1_000,
  uniqueItems: true,
} as const

export const NAME_TO_NAME = {
  type: 'object',
  additionalProperties: { type: 'string', minLength: 1, maxLength: 400 },
  minProperties: 1,
  maxProperties: 1_000,
} as const
