/** What the owner of a project says about ingest, with the defaults filled in: what the steps look at. */
import type { IngestionOptions } from '../catalog/index.ts'

export type ProjectOptions = {
  readonly anonymizeIps: boolean
  readonly personProcessing: 'on' | 'off'
  /** Age of an event when it was captured, ms. */
  readonly ageMsMax: number
  readonly cookieless: NonNullable<IngestionOptions['cookieless']>
  readonly timezone: string
  /** Undefined: the usual list. */
  readonly suppressedProperties: ReadonlySet<string> | undefined
  readonly propertyOrder: NonNullable<IngestionOptions['propertyOrder']>
}

export type IngestProject = { readonly teamId: number; readonly options: ProjectOptions }

/** What holds for an option that is absent. */
export function withDefaults(options: IngestionOptions): ProjectOptions {
  const { dropEventsOlderThanSeconds, suppressedProperties } = options
  return {
    anonymizeIps: options.anonymizeIps ?? false,
    personProcessing: options.personProcessing ?? 'on',
    ageMsMax: dropEventsOlderThanSeconds === undefined ? Infinity : dropEventsOlderThanSeconds * 1000,
    cookieless: options.cookieless ?? 'off',
    timezone: options.timezone ?? 'UTC',
    suppressedProperties: suppressedProperties && new Set(suppressedProperties),
    propertyOrder: options.propertyOrder ?? 'arrival',
  }
}
