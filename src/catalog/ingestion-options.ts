/**
 * What the owner of a project says about how ingest treats its events: one object under `ingestion` in the project's
 * settings. Writing it is strict, as a policy is. Reading it back must keep no event out: a member that this version
 * cannot read counts as absent, the others hold, and the reader is told.
 */
import { errorTable, type HeadraceError } from '../event/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { projectNotFound } from './projects.ts'
import { type Fields, strictReaders } from './strict-reader.ts'
import { transaction } from './transaction.ts'

export const INGESTION_OPTIONS_ERRORS = {
  HR_INGESTION_OPTIONS_INVALID: {
    class: 'rejected',
    status: 400,
    meaning:
      "A project's options of ingestion have a member that is not known, or a value that is not allowed; the sentence names both.",
  },
} as const
const optionsError = errorTable(INGESTION_OPTIONS_ERRORS)

export const COOKIELESS_MODES = ['off', 'stateless', 'stateful'] as const
export const PROPERTY_ORDERS = ['arrival', 'eventTime'] as const

/** Each member may be absent; docs/guides/ingestion.md says what holds then. */
export type IngestionOptions = {
  /** True: no IP address is stored with events or persons. */
  anonymizeIps?: boolean
  /** `off`: no event of the project creates, joins or changes a person. */
  personProcessing?: 'on' | 'off'
  /** Events that were older than this when they were captured are dropped. */
  dropEventsOlderThanSeconds?: number
  cookieless?: (typeof COOKIELESS_MODES)[number]
  /** Of a cookieless event that does not say its own. */
  timezone?: string
  /** Properties of persons whose change alone is not worth a write; they replace the usual list. */
  suppressedProperties?: string[]
  /** Which of two values of a property wins: the one that arrived later, or the one of the later event. */
  propertyOrder?: (typeof PROPERTY_ORDERS)[number]
}

/** A hundred years. */
const AGE_SECONDS_MAX = 3_155_760_000
const SUPPRESSED_MAX = 1_000
/** UTF-16 units. */
const PROPERTY_UNITS_MAX = 400

/** As errors call it. */
const WHOLE = 'ingestion'
const { choice, flag, integer, list, object, text, timezone } = strictReaders(WHOLE, (sentence) =>
  optionsError('HR_INGESTION_OPTIONS_INVALID', sentence),
)

const OPTIONS: Fields<IngestionOptions> = {
  anonymizeIps: flag,
  personProcessing: choice(['on', 'off']),
  dropEventsOlderThanSeconds: integer(1, AGE_SECONDS_MAX),
  cookieless: choice(COOKIELESS_MODES),
  timezone,
  // An empty list is allowed: then every change of a person is written.
  suppressedProperties: list(0, SUPPRESSED_MAX, text(PROPERTY_UNITS_MAX)),
  propertyOrder: choice(PROPERTY_ORDERS),
}

/** The names of all options, in the order of the docs. */
export const INGESTION_OPTIONS = Object.keys(OPTIONS) as (keyof IngestionOptions)[]

/** The options that `value`, parsed JSON, is. Throws HR_INGESTION_OPTIONS_INVALID. */
export function readIngestionOptions(value: unknown): IngestionOptions {
  return object(OPTIONS)(value, WHOLE)
}

/** What can be read of the options in a project's settings, and a sentence for each member that cannot. Never throws. */
export function ingestionOptionsIn(settings: Record<string, unknown>): {
  options: IngestionOptions
  problems: string[]
} {
  const stored = settings.ingestion
  if (stored === undefined) return { options: {}, problems: [] }
  const options: IngestionOptions = {}
  const problems: string[] = []
  const members = typeof stored === 'object' && stored !== null && !Array.isArray(stored) ? stored : undefined
  // Member by member: one that a later version wrote must not undo the anonymising of addresses.
  for (const one of members
    ? Object.entries(members).map(([name, value]) => ({ [name]: value }))
    : [stored]) {
    try {
      Object.assign(options, readIngestionOptions(one))
    } catch (error) {
      problems.push((error as HeadraceError).message)
    }
  }
  return { options, problems }
}

/**
 * Replaces the options of the project `name` by what `change` makes of the stored ones, as they are (undefined when there
 * are none); undefined removes them. Throws HR_PROJECT_NOT_FOUND, HR_INGESTION_OPTIONS_INVALID.
 */
export async function changeIngestionOptions(
  sql: Sql,
  name: string,
  change: (stored: unknown) => unknown,
): Promise<IngestionOptions | undefined> {
  return guardState('setting options of ingestion', () =>
    transaction(sql, async (tx) => {
      const [row] = await tx<{ stored: unknown }[]>`
        SELECT settings->'ingestion' AS stored FROM project WHERE name = ${name} FOR UPDATE`
      if (!row) throw projectNotFound(name)
      const wanted = change(row.stored ?? undefined)
      const options = wanted === undefined ? undefined : readIngestionOptions(wanted)
      const json = options === undefined ? null : JSON.stringify(options)
      await tx`
        UPDATE project
        SET settings = CASE WHEN ${json}::text IS NULL THEN settings - 'ingestion'
                            ELSE jsonb_set(settings, '{ingestion}', ${json}::text::jsonb) END
        WHERE name = ${name}`
      return options
    }),
  )
}
