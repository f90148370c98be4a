/** Built-ins that decide which events go on. */
import type { Json } from '../../event/index.ts'
import type { TransformEvent } from '../outcome.ts'
import { builtIn } from './built-in.ts'
import { findValue, type Name, namesOf } from './places.ts'

const OPERATORS = [
  'is',
  'is_not',
  'contains',
  'starts_with',
  'ends_with',
  'above',
  'below',
  'set',
  'not_set',
] as const

type Condition = {
  event?: string | string[]
  property?: string
  operator?: (typeof OPERATORS)[number]
  value?: Json
}

const CONDITION = {
  type: 'object',
  properties: {
    event: {
      oneOf: [
        { type: 'string', minLength: 1 },
        { type: 'array', items: { type: 'string', minLength: 1 }, minItems: 1, maxItems: 1_000 },
      ],
    },
    property: { type: 'string', minLength: 1 },
    operator: { enum: OPERATORS },
    value: {},
  },
  additionalProperties: false,
  anyOf: [{ required: ['event'] }, { required: ['property'] }],
  dependentRequired: { operator: ['property'], value: ['property'] },
} as const

export const filter = builtIn<{ action: 'drop' | 'keep'; when: 'any' | 'all'; conditions: Condition[] }>({
  does: 'Drops events to which conditions apply, or all others.',
  properties: {
    action: {
      enum: ['drop', 'keep'],
      default: 'drop',
      description: 'What happens to an event that matches.',
    },
    when: { enum: ['any', 'all'], default: 'any', description: 'How many of the conditions it must match.' },
    conditions: {
      type: 'array',
      items: CONDITION,
      minItems: 1,
      maxItems: 100,
      description:
        'Each with `event` (a name, or a list of them), or `property`, `operator` and `value`, or both. `is` and `is_not` take a list, too.',
    },
  },
  required: ['conditions'],
  make({ action, when, conditions }) {
    const tests = conditions.map(testOf)
    const matches =
      when === 'any'
        ? (event: TransformEvent) => tests.some((test) => test(event))
        : (event: TransformEvent) => tests.every((test) => test(event))
    return (event) => (matches(event) === (action === 'keep') ? event : null)
  },
})

function testOf({
  event,
  property,
  operator = 'set',
  value = null,
}: Condition): (event: TransformEvent) => boolean {
  const names = event === undefined ? undefined : new Set([event].flat())
  if (property === undefined) return (given) => names!.has(given.event)
  const [name] = namesOf([property]) as [Name]
  const compare = comparison(operator, value)
  return (given) => (!names || names.has(given.event)) && compare(findValue(given.properties, name))
}

function comparison(operator: (typeof OPERATORS)[number], value: Json): (found: Json | undefined) => boolean {
  const wanted = Array.isArray(value) ? value : [value]
  const isAny = (found: Json | undefined) => wanted.some((one) => one === found)
  const text = String(value)
  const number = Number(value)
  switch (operator) {
    case 'is':
      return isAny
    case 'is_not':
      return (found) => !isAny(found)
    case 'contains':
      return (found) =>
        Array.isArray(found) ? found.includes(value) : typeof found === 'string' && found.includes(text)
    case 'starts_with':
      return (found) => typeof found === 'string' && found.startsWith(text)
    case 'ends_with':
      return (found) => typeof found === 'string' && found.endsWith(text)
    case 'above':
      return (found) => typeof found === 'number' && found > number
    case 'below':
      return (found) => typeof found === 'number' && found < number
    case 'set':
      return (found) => found !== undefined && found !== null
    case 'not_set':
      return (found) => found === undefined || found === null
  }
}

export const sample = builtIn<{ share: number; events: string[]; salt: string }>({
  does: 'Keeps a share of the persons with all their events, always the same ones, and notes what each kept event stands for in `$sample_weight`. Events that join or change persons are kept always.',
  properties: {
    share: { type: 'number', exclusiveMinimum: 0, maximum: 1, description: 'Between 0 and 1.' },
    events: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      maxItems: 1_000,
      default: [],
      description: 'Only these are sampled; without any, all.',
    },
    salt: {
      type: 'string',
      maxLength: 100,
      default: '',
      description: 'Another text chooses other persons.',
    },
  },
  required: ['share'],
  make({ share, events, salt }) {
    const names = events.length > 0 ? new Set(events) : undefined
    const limit = share * 2 ** 32
    return (event) => {
      if (names ? !names.has(event.event) : ABOUT_PERSONS.has(event.event)) return event
      if (placeOf(salt + event.distinctId) >= limit) return null
      const { $sample_weight: before } = event.properties
      const weight = (typeof before === 'number' && before > 0 ? before : 1) / share
      return { ...event, properties: { ...event.properties, $sample_weight: weight } }
    }
  },
})

const ABOUT_PERSONS: ReadonlySet<string> = new Set([
  '$identify',
  '$create_alias',
  '$merge_dangerously',
  '$set',
  '$groupidentify',
])

/** Evenly below 2^32, the same everywhere and for ever: FNV-1a, then murmur3's finish, so that near ids lie far apart. */
function placeOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
