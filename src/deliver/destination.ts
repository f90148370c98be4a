/**
 * What a destination is, and what its description may hold. In: JSON from people. Out: a checked description; what is
 * not given has a default here and nowhere else. Each kind of target checks its own options (`targets/`).
 */
import { deliverError } from './errors.ts'
import { type Filter, readFilter } from './filter.ts'

export const DESTINATION_STATES = ['active', 'paused', 'deleted'] as const
export type DestinationState = (typeof DESTINATION_STATES)[number]

export type DestinationConfig = {
  filter: Filter
  /** Share of the distinct ids that it gets, above 0 up to 1; the same ids at every time and for every destination. */
  sample: number
  /** An event that is older than this when its turn comes is not sent any more; undefined = never. */
  expireAfterS: number | undefined
  /** How long an event that failed alone is tried again. */
  retryForS: number
  /** Requests at once, at most; fewer while the receiver fails. Per process. */
  concurrency: number
  /** Requests per second over all processes; undefined = as many as the receiver takes. */
  ratePerSecond: number | undefined
  /** Events of one distinct_id one after the other, in their order; those behind one that fails wait for it. */
  ordered: boolean
  /** Of one request. */
  timeoutMs: number
  /** Of the kind; texts may name a secret as {"secret": "<name>"}. */
  options: Record<string, unknown>
}

export type Destination = {
  id: string
  teamId: number
  name: string
  kind: string
  config: DestinationConfig
  secrets: Record<string, string>
  state: DestinationState
  /** Why it is paused. */
  says: string
  /** Of a replay: whose events it sends again, under the ids that they had. */
  replayOf: string | undefined
}

const DAY_S = 86_400
/** Full-jitter retries of single events end after this. */
export const RETRY_FOR_S_MAX = 3 * DAY_S
const CONCURRENCY_DEFAULT = 16
const CONCURRENCY_MAX = 256
const TIMEOUT_MS_DEFAULT = 10_000
const TIMEOUT_MS_MAX = 60_000
const NAME = /^[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}$/

export function readName(name: unknown): string {
  if (typeof name === 'string' && NAME.test(name)) return name
  throw invalid(
    `a destination's name has 1 to 100 of A-Z a-z 0-9 space _ . - and begins with a letter or digit`,
  )
}

/** Throws HR_DESTINATION_INVALID. */
export function readConfig(input: unknown): DestinationConfig {
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    throw invalid('a destination is described by a JSON object')
  const known = input as Record<string, unknown>
  for (const key of Object.keys(known)) {
    if (!KEYS.includes(key)) throw invalid(`"${key}" is not known; allowed are ${KEYS.join(', ')}`)
  }
  const { ordered = false, options = {} } = known
  if (typeof ordered !== 'boolean') throw invalid('ordered must be true or false')
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalid('options must be an object')
  return {
    filter: readFilter(known.filter),
    sample: number(known, 'sample', { from: 0.000001, to: 1, otherwise: 1 }),
    expireAfterS: optional(known, 'expire_after_s', { from: 1, to: 365 * DAY_S }),
    retryForS: number(known, 'retry_for_s', { from: 1, to: RETRY_FOR_S_MAX, otherwise: RETRY_FOR_S_MAX }),
    concurrency: number(known, 'concurrency', {
      from: 1,
      to: CONCURRENCY_MAX,
      otherwise: CONCURRENCY_DEFAULT,
      whole: true,
    }),
    ratePerSecond: optional(known, 'rate_per_second', { from: 0.01, to: 1_000_000 }),
    ordered,
    timeoutMs: number(known, 'timeout_ms', {
      from: 100,
      to: TIMEOUT_MS_MAX,
      otherwise: TIMEOUT_MS_DEFAULT,
      whole: true,
    }),
    options: options as Record<string, unknown>,
  }
}

const KEYS = [
  'filter',
  'sample',
  'expire_after_s',
  'retry_for_s',
  'concurrency',
  'rate_per_second',
  'ordered',
  'timeout_ms',
  'options',
]

/** As people wrote it; what has its default is left out. */
export function showConfig(config: DestinationConfig): Record<string, unknown> {
  const { filter, options, ordered } = config
  const plain = readConfig({})
  return {
    ...(Object.keys(filter).length > 0 ? { filter } : {}),
    ...(config.sample !== 1 ? { sample: config.sample } : {}),
    ...(config.expireAfterS !== undefined ? { expire_after_s: config.expireAfterS } : {}),
    ...(config.retryForS !== plain.retryForS ? { retry_for_s: config.retryForS } : {}),
    ...(config.concurrency !== plain.concurrency ? { concurrency: config.concurrency } : {}),
    ...(config.ratePerSecond !== undefined ? { rate_per_second: config.ratePerSecond } : {}),
    ...(ordered ? { ordered } : {}),
    ...(config.timeoutMs !== plain.timeoutMs ? { timeout_ms: config.timeoutMs } : {}),
    options,
  }
}

type Range = { from: number; to: number; whole?: boolean }

function optional(known: Record<string, unknown>, key: string, range: Range): number | undefined {
  return known[key] === undefined || known[key] === null
    ? undefined
    : number(known, key, { ...range, otherwise: 0 })
}

function number(
  known: Record<string, unknown>,
  key: string,
  { from, to, otherwise, whole }: Range & { otherwise: number },
): number {
  const value = known[key] ?? otherwise
  if (typeof value === 'number' && value >= from && value <= to && (!whole || Number.isInteger(value)))
    return value
  throw invalid(
    `${key} is ${JSON.stringify(value)}; allowed is a ${whole ? 'whole ' : ''}number from ${from} to ${to}`,
  )
}

function invalid(message: string) {
  return deliverError('HR_DESTINATION_INVALID', message)
}
