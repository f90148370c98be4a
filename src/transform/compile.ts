/**
 * User TypeScript to one JavaScript module without imports. In: source. Out: code, and which line of the source each
 * of its lines came from; or HR_TRANSFORM_COMPILE with line and column. Types are stripped, not checked. Once per
 * version of a transformation, a few ms.
 */
import { transformError } from './errors.ts'

export const SOURCE_CHARS_MAX = 100_000

export type CompiledTransformation = {
  readonly source: string
  readonly code: string
  /** Where each line of the code (from 0) came from. */
  readonly segments: readonly (readonly Segment[])[]
}

/** From `column` (from 0) of a line of the code on, it is from `line` (from 1) of the source. */
type Segment = { readonly column: number; readonly line: number }

const ENTRY = '/transformation.ts'

export async function compileTransformation(source: string): Promise<CompiledTransformation> {
  if (source.length > SOURCE_CHARS_MAX)
    throw refusal(`it has ${source.length} characters; ${SOURCE_CHARS_MAX} are allowed`)
  const { exports, imports } = scan(source)
  // `using` and the like are lowered to imports of the runtime's own, which are written into the module.
  const [imported] = imports
  if (imported)
    throw refusal(
      `it imports '${imported.path}'; a transformation is one file`,
      placeOf(source, importOf(imported.path)),
    )
  if (!exports.includes('default'))
    throw refusal('it has no default export; write `export default function (event) { … }`')
  const asynchronous = source.match(/^[ \t]*export[ \t]+default[ \t]+async\b/m)
  if (asynchronous)
    throw refusal('its function is async; a transformation is synchronous', {
      ...lineAndColumn(source, asynchronous.index! + asynchronous[0].search(/\S/)),
    })
  const { code, map } = await strip(source)
  return { source, code, segments: segmentsOf(map) }
}

function scan(source: string) {
  try {
    return new Bun.Transpiler({ loader: 'ts', target: 'browser' }).scan(source)
  } catch (error) {
    throw syntaxRefusal(error)
  }
}

async function strip(source: string): Promise<{ code: string; map: string }> {
  try {
    const built = await Bun.build({
      entrypoints: [ENTRY],
      files: { [ENTRY]: source },
      // Nothing is read from disk, whatever the source asks for.
      external: ['*'],
      sourcemap: 'external',
      target: 'browser',
      format: 'esm',
    })
    const [code, map] = await Promise.all(built.outputs.map((output) => output.text()))
    return { code: code!, map: (JSON.parse(map!) as { mappings: string }).mappings }
  } catch (error) {
    throw syntaxRefusal(error)
  }
}

type Place = { line: number; column: number }

function refusal(what: string, place?: Place, cause?: unknown) {
  const where = place ? ` (line ${place.line}, column ${place.column})` : ''
  return transformError('HR_TRANSFORM_COMPILE', `the transformation does not compile: ${what}${where}`, cause)
}

/** Only what Bun says of the source is a refusal; anything else is our own fault. */
function syntaxRefusal(error: unknown): unknown {
  const first = error instanceof AggregateError ? error.errors[0] : error
  if (!(first instanceof BuildMessage) && !(first instanceof ResolveMessage)) return error
  const { position } = first
  return refusal(
    first.message,
    position ? { line: position.line, column: position.column } : undefined,
    first,
  )
}

function importOf(path: string): RegExp {
  const quoted = path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`\\b(?:import|export)\\b[^'"\`;]*['"\`]${quoted}['"\`]`)
}

function placeOf(source: string, what: RegExp): Place | undefined {
  const index = source.search(what)
  return index < 0 ? undefined : lineAndColumn(source, index)
}

function lineAndColumn(source: string, index: number): Place {
  const before = source.slice(0, index)
  return { line: before.split('\n').length, column: index - before.lastIndexOf('\n') }
}

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

/** Source map mappings (ECMA-426: columns are relative within a line, lines throughout). */
function segmentsOf(mappings: string): Segment[][] {
  let line = 0
  return mappings.split(';').map((text) => {
    let column = 0
    const segments: Segment[] = []
    for (const segment of text.split(',')) {
      const fields = variableLengths(segment)
      if (fields.length < 4) continue
      column += fields[0]!
      line += fields[2]!
      segments.push({ column, line: line + 1 })
    }
    return segments
  })
}

/** Line of the source (from 1) for a place in the code (both from 1), if it is known. */
export function sourceLine(
  { segments }: CompiledTransformation,
  line: number,
  column: number,
): number | undefined {
  return segments[line - 1]?.findLast((segment) => segment.column < column)?.line
}

function variableLengths(segment: string): number[] {
  const values: number[] = []
  let value = 0
  let shift = 0
  for (const character of segment) {
    const digit = DIGITS.indexOf(character)
    value |= (digit & 31) << shift
    shift += 5
    if (digit & 32) continue
    values.push(value & 1 ? -(value >>> 1) : value >>> 1)
    value = 0
    shift = 0
  }
  return values
}
