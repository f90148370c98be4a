/**
 * The projects of a batch: their team id, and their options made ready for the steps. In: tokens. Out: what is known of
 * each; an unknown token is absent. Options are read once per change of the project, which the catalogue shows by
 * another object; it asks Postgres in the background, so a change is obeyed within 5 s and no batch waits for it.
 */
import { type IngestionOptions, ingestionOptionsIn, type Project } from '../catalog/index.ts'
import type { Logger } from '../observe/index.ts'
import { ingestMetrics } from './metrics.ts'

/** What the owner of a project wants, with the defaults filled in. */
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

export type ProjectsOf = (tokens: Set<string>) => Promise<ReadonlyMap<string, IngestProject>>

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

/** What `projectsOf` asks: the catalogue of projects. */
export type ProjectLookup = { lookup(tokens: Set<string>): Promise<Map<string, Project | undefined>> }

export function projectsOf(catalog: ProjectLookup, logger: Logger): ProjectsOf {
  const ready = new WeakMap<Project, IngestProject>()
  const makeReady = (project: Project): IngestProject => {
    const { options, problems } = ingestionOptionsIn(project.settings)
    for (const problem of problems) {
      ingestMetrics.optionsUnread.inc()
      logger.error(
        { teamId: project.teamId, project: project.name, docs: 'docs/guides/ingestion.md' },
        `an option of ingestion counts as absent: ${problem}`,
      )
    }
    const made = { teamId: project.teamId, options: withDefaults(options) }
    ready.set(project, made)
    return made
  }
  return async (tokens) => {
    const found = new Map<string, IngestProject>()
    for (const [token, project] of await catalog.lookup(tokens)) {
      if (project) found.set(token, ready.get(project) ?? makeReady(project))
    }
    return found
  }
}
