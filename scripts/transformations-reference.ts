/** The reference of built-in transformations. In: what each says of itself. Out: lines of Markdown. */
import { LIBRARY } from '../src/transform/index.ts'

type MakeTable = (head: string[], rows: string[][]) => string[]

export function transformationsReference(table: MakeTable): string[] {
  return [
    'What a step of a set may `use`, with its `options`. How they are written, tested and published is in',
    '[the guide](../guides/transformations.md).',
    '',
    ...Object.entries(LIBRARY).flatMap(([name, { does, properties, required = [] }]) => [
      `## ${name}`,
      '',
      does,
      '',
      ...table(
        ['Option', 'Default', 'What it may be', ''],
        Object.entries(properties).map(([option, schema]) => [
          `\`${option}\``,
          required.includes(option) ? 'required' : `\`${JSON.stringify(schema.default)}\``,
          kindOf(schema),
          String(schema.description ?? ''),
        ]),
      ),
      '',
    ]),
  ]
}

function kindOf({
  type,
  enum: values,
  minimum,
  exclusiveMinimum,
  maximum,
  additionalProperties,
}: Record<string, unknown>): string {
  if (Array.isArray(values)) return values.map((value) => `\`${value}\``).join(', ')
  if (type === 'array') return 'list'
  if (type === 'object') {
    const inner = additionalProperties as { enum?: unknown[] } | undefined
    return inner?.enum ? `object of ${inner.enum.map((value) => `\`${value}\``).join(', ')}` : 'object'
  }
  const from = minimum ?? exclusiveMinimum
  return from === undefined ? String(type) : `${type}, ${from} to ${maximum}`
}
