/**
 * Transformations: user TypeScript in a sandbox, and built-ins of the same signature, between what was captured and
 * what is stored. The room knows neither the log nor Postgres: it is given events and says what became of them.
 */

export { Allowance } from './allowance.ts'
export { CASE_KEY, type CaseResult, differences, runCases, type TransformCase, tell } from './cases.ts'
export { type ChainOutcome, type ChainStep, type Change, runChain, type StepFailure } from './chain.ts'
export { type CompiledTransformation, compileTransformation, SOURCE_CHARS_MAX } from './compile.ts'
export { TRANSFORM_ERRORS } from './errors.ts'
export { readSetFolder, type SetFolder, writeExample } from './folder.ts'
export { openGeoip } from './geoip.ts'
export { type HostHelpers, hmacSha256 } from './helpers.ts'
export { LIBRARY } from './library/index.ts'
export {
  applyPolicy,
  type FailureKind,
  type FailurePolicy,
  type StepDecision,
  type TransformEvent,
  type TransformFailure,
  type TransformOutcome,
} from './outcome.ts'
export type { RealmLimits } from './realm.ts'
export {
  type BatchLimits,
  type LogLine,
  OutputTooLarge,
  SANDBOX_LIMITS,
  Sandbox,
  type SandboxResult,
} from './sandbox.ts'
export {
  type OpenSet,
  openSet,
  parseSet,
  type SetDefinition,
  type StepDefinition,
  type Surroundings,
} from './set.ts'
