/**
 * A project's transformations as one versioned whole: its steps in order, and the tables that they look things up in.
 * In: JSON, as the CLI reads it from a folder or Postgres keeps it. Out: a definition that is known to be good, and from
 * it steps that are ready to run. What must hold: what was accepted once runs for ever alike, so that a replay decides as
 * the first time did. Cost of opening: some ms per step of user code, and memory for its sandbox (up to 32 MB).
 */
import type { ErrorObject } from 'ajv'
import type { Json } from '../event/index.ts'
import { isBotName } from './agents.ts'
import type { ChainStep, RunUserCode } from './chain.ts'
import { type CompiledTransformation, compileTransformation, SOURCE_CHARS_MAX } from './compile.ts'
import { transformError } from './errors.ts'
import { type HostHelpers, hmacSha256 } from './helpers.ts'
import type { BuiltInKind } from './library/built-in.ts'
import { schemaCompiler, violationTexts } from './library/contract.ts'
import { LIBRARY } from './library/index.ts'
import { LightChain } from './light-chain.ts'
import type { FailurePolicy } from './outcome.ts'
import { SANDBOX_LIMITS, Sandbox } from './sandbox.ts'

export type StepDefinition = {
  readonly name: string
  /** `quarantine` where it is absent, but for built-ins whose options say it. */
  readonly policy?: FailurePolicy
} & (
  | { readonly use: string; readonly options?: Readonly<Record<string, Json>> }
  /** TypeScript. */
  | { readonly source: string }
)

export type SetDefinition = {
  readonly steps: readonly StepDefinition[]
  /** By name: key to value, for `lookup`. */
  readonly tables?: Readonly<Record<string, Readonly<Record<string, Json>>>>
}

const STEPS_MAX = 20
const TABLES_CHARS_MAX = 1_000_000

const NAME = { type: 'string', pattern: '^[a-z0-9][a-z0-9-]{0,49}$' }
const POLICY = { enum: ['pass', 'drop', 'quarantine'] }
const SET_SCHEMA = {
  type: 'object',
  properties: {
    steps: {
      type: 'array',
      maxItems: STEPS_MAX,
      items: {
        type: 'object',
        required: ['name'],
        properties: {
          name: NAME,
          policy: POLICY,
          use: { enum: Object.keys(LIBRARY) },
          options: { type: 'object' },
          source: { type: 'string', minLength: 1, maxLength: SOURCE_CHARS_MAX },
        },
        additionalProperties: false,
        oneOf: [{ required: ['use'] }, { required: ['source'] }],
      },
    },
    tables: {
      type: 'object',
      maxProperties: 20,
      propertyNames: NAME,
      additionalProperties: { type: 'object', maxProperties: 100_000 },
    },
  },
  required: ['steps'],
  additionalProperties: false,
}

const isSet = schemaCompiler().compile(SET_SCHEMA)

/** Throws HR_TRANSFORM_SET, which says all that is wrong. Code is not compiled here. */
export function parseSet(json: unknown): SetDefinition {
  if (!isSet(json)) throw refused('the set of transformations', isSet.errors)
  const set = json as SetDefinition
  const names = new Set<string>()
  for (const step of set.steps) {
    if (names.has(step.name)) throw wrong(`two transformations are called ${step.name}`)
    names.add(step.name)
    if ('use' in step) optionsOf(step.name, step.use, step.options)
    if ('source' in step && 'options' in step)
      throw wrong(`transformation ${step.name} is code of yours, which takes no options`)
  }
  const chars = JSON.stringify(set.tables ?? {}).length
  if (chars > TABLES_CHARS_MAX)
    throw wrong(`its tables have ${chars} characters; ${TABLES_CHARS_MAX} are allowed`)
  return set
}

function wrong(what: string, cause?: unknown) {
  return transformError('HR_TRANSFORM_SET', what, cause)
}

function refused(what: string, errors: readonly ErrorObject[] | null | undefined) {
  return wrong(`${what} cannot be: ${violationTexts(errors ?? []).join('; ')}`)
}

const ajvOfOptions = schemaCompiler()
ajvOfOptions.opts.useDefaults = true

/** With what is absent filled in. */
function optionsOf(step: string, use: string, given: Readonly<Record<string, Json>> = {}): never {
  const { properties, required = [] } = LIBRARY[use] as BuiltInKind
  const options = structuredClone(given)
  const isRight = ajvOfOptions.compile({ type: 'object', properties, required, additionalProperties: false })
  if (!isRight(options)) throw refused(`the options of transformation ${step} (${use})`, isRight.errors)
  try {
    LIBRARY[use]!.make(options as never, NO_HELP)
  } catch (cause) {
    throw wrong(
      `the options of transformation ${step} (${use}) cannot be: ${(cause as Error).message}`,
      cause,
    )
  }
  return options as never
}

const NO_HELP: HostHelpers = {
  geoip: () => null,
  isBot: () => false,
  hash: (text) => text,
  lookup: () => null,
}

/** What does not depend on the set. */
export type Surroundings = {
  /** The project's own, for `hash`. */
  readonly key: string | Uint8Array
  /** Null for every address where no database is named. */
  readonly geoip: HostHelpers['geoip']
}

export type OpenSet = {
  readonly steps: readonly ChainStep[]
  close(): void
}

/** HR_TRANSFORM_COMPILE or HR_TRANSFORM_START when code of a user is no good. */
export async function openSet(set: SetDefinition, { key, geoip }: Surroundings): Promise<OpenSet> {
  const tables = new Map(
    Object.entries(set.tables ?? {}).map(([name, table]) => [name, new Map(Object.entries(table))]),
  )
  const helpers: HostHelpers = {
    geoip,
    isBot: isBotName,
    hash: hmacSha256(key),
    lookup: (table, wanted) => tables.get(table)?.get(wanted) ?? null,
  }
  const opened: { close(): void }[] = []
  const close = () => {
    for (const one of opened) one.close()
  }
  const steps: ChainStep[] = []
  const codes: { at: number; compiled: CompiledTransformation }[] = []
  try {
    for (const step of set.steps) {
      if ('use' in step) {
        const kind = LIBRARY[step.use]!
        const options = optionsOf(step.name, step.use, step.options)
        const policy = kind.policyOf?.(options) ?? step.policy ?? 'quarantine'
        steps.push({ name: step.name, policy, apply: kind.make(options, helpers) })
        continue
      }
      const compiled = await compileTransformation(step.source)
      const sandbox = await Sandbox.open(compiled, helpers)
      opened.push(sandbox)
      codes.push({ at: steps.length, compiled })
      const run: RunUserCode = (events, limits) => sandbox.run(events, limits)
      steps.push({ name: step.name, policy: step.policy ?? 'quarantine', run })
    }
  } catch (error) {
    close()
    throw error
  }
  for (const run of inARow(codes)) {
    const light = new LightChain(
      run.map(({ compiled }) => compiled),
      helpers,
      SANDBOX_LIMITS,
    )
    opened.push(light)
    steps[run[0]!.at] = { ...(steps[run[0]!.at] as ChainStep & { run: RunUserCode }), light }
  }
  return { steps, close }
}

function inARow<Step extends { at: number }>(steps: readonly Step[]): Step[][] {
  const runs: Step[][] = []
  for (const step of steps) {
    const run = runs.at(-1)
    if (run?.at(-1)?.at === step.at - 1) run!.push(step)
    else runs.push([step])
  }
  return runs
}
