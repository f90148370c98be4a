/**
 * What the owner of a project says about ingest, with what holds otherwise filled in: what the steps look at, and what
 * the identity step is told. What holds otherwise for persons is written in identity/options.ts.
 */
import type { IngestionOptions } from '../catalog/index.ts'
import { DEFAULT_OPTIONS, type OptionsOf } from './identity/options.ts'

export type ProjectOptions = {
  readonly anonymizeIps: boolean
  readonly personProcessing: 'on' | 'off'
  /** Age of an event when it was captured, ms. */
  readonly ageMsMax: number
  readonly cookieless: NonNullable<IngestionOptions['cookieless']>
  readonly timezone: string
  readonly suppressedProperties: ReadonlySet<string>
  readonly propertyOrder: NonNullable<IngestionOptions['propertyOrder']>
}

export type IngestProject = {
  readonly teamId: number
  readonly options: ProjectOptions
  /** Nothing new of it is taken; what was decided before is produced again as it was. */
  readonly closed?: boolean
}

/** What holds for an option that is absent. */
export function withDefaults(options: IngestionOptions): ProjectOptions {
  const { dropEventsOlderThanSeconds, suppressedProperties } = options
  return {
    anonymizeIps: options.anonymizeIps ?? false,
    personProcessing: options.personProcessing ?? 'on',
    ageMsMax: dropEventsOlderThanSeconds === undefined ? Infinity : dropEventsOlderThanSeconds * 1000,
    cookieless: options.cookieless ?? 'off',
    timezone: options.timezone ?? 'UTC',
    suppressedProperties: suppressedProperties ? new Set(suppressedProperties) : DEFAULT_OPTIONS.suppressed,
    propertyOrder: options.propertyOrder ?? DEFAULT_OPTIONS.propertyOrder,
  }
}

/** What `projects`, by token, say about their persons. A team that is not among them is our own mistake. */
export function identityOptionsOf(projects: ReadonlyMap<string, IngestProject>): OptionsOf {
  const byTeam = new Map([...projects.values()].map((project) => [project.teamId, project.options]))
  return (teamId) => {
    const options = byTeam.get(teamId)
    if (!options) throw new TypeError(`no project of the batch is team ${teamId}`)
    return {
      suppressed: options.suppressedProperties,
      propertyOrder: options.propertyOrder,
      optedOut: options.personProcessing === 'off',
    }
  }
}
