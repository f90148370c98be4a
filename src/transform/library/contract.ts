/** The built-in that holds events to what was agreed about them, as JSON Schema. */
import Ajv2020, { type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { RE2JS } from 're2js'
import type { FailurePolicy, TransformEvent } from '../outcome.ts'
import { Refusal } from '../outcome.ts'
import { builtIn } from './built-in.ts'

type Mode = 'observe' | 'stamp' | 'quarantine' | 'reject'

const POLICIES = {
  observe: 'pass',
  stamp: 'pass',
  quarantine: 'quarantine',
  reject: 'drop',
} as const satisfies Record<Mode, FailurePolicy>
const VIOLATIONS_TOLD_MAX = 10

/** Patterns are matched in linear time: those of a schema come from users. */
const linear = Object.assign(
  (pattern: string) => {
    const expression = RE2JS.compile(pattern)
    // Ajv tells patterns apart by their text.

    return {
      test: (text: string) => expression.matcher(text).find(),
      toString: () => pattern,
    } as unknown as RegExp
  },
  { code: 'linear' },
)

export function schemaCompiler(): Ajv2020 {
  const ajv = new Ajv2020({
    allErrors: true,
    // An unknown keyword is a slip; the rest of the strict mode is taste.
    strictSchema: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    code: { regExp: linear },
  })
  addFormats(ajv, { mode: 'fast' })
  return ajv
}

export const schema = builtIn<{
  events: Record<string, object>
  mode: Mode
  others: 'allow' | 'violate'
}>({
  does: 'Checks the properties of events against JSON Schemas (2020-12), one for each name of an event.',
  properties: {
    events: {
      type: 'object',
      additionalProperties: { type: 'object' },
      minProperties: 1,
      maxProperties: 1_000,
      description: 'Name of the event to the schema of its `properties`.',
    },
    mode: {
      enum: ['observe', 'stamp', 'quarantine', 'reject'],
      default: 'observe',
      description:
        'What becomes of an event that breaks its schema: it is counted; it is also marked with `$schema_violations`; it goes to the dead letters; it is dropped.',
    },
    others: {
      enum: ['allow', 'violate'],
      default: 'allow',
      description: 'Events without a schema, but for those whose names begin with `$`.',
    },
  },
  required: ['events'],
  policyOf: ({ mode }) => POLICIES[mode],
  make({ events, mode, others }) {
    const ajv = schemaCompiler()
    const byName = new Map<string, ValidateFunction>(
      Object.entries(events).map(([name, one]) => [name, ajv.compile(one)]),
    )
    return (event) => {
      const violations = violationsOf(event, byName, others)
      if (violations === undefined) return event
      if (mode === 'stamp')
        return { ...event, properties: { ...event.properties, $schema_violations: violations } }
      throw new Refusal(violations.join('; '))
    }
  },
})

function violationsOf(
  event: TransformEvent,
  byName: ReadonlyMap<string, ValidateFunction>,
  others: 'allow' | 'violate',
): string[] | undefined {
  const validate = byName.get(event.event)
  if (!validate)
    return others === 'allow' || event.event.startsWith('$') ? undefined : [`no schema for ${event.event}`]
  if (validate(event.properties)) return undefined
  return violationTexts(validate.errors ?? [])
}

/** What is wrong, without the values: they may be what nobody should see. */
export function violationTexts(errors: readonly ErrorObject[]): string[] {
  const texts = errors.map(({ instancePath, message, keyword, params }) => {
    const extra = keyword === 'additionalProperties' ? ` ${String(params.additionalProperty)}` : ''
    return `${instancePath === '' ? 'it' : instancePath.slice(1).replaceAll('/', '.')} ${message}${extra}`
  })
  return [...new Set(texts)].slice(0, VIOLATIONS_TOLD_MAX)
}
