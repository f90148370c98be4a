/**
 * The projects of a batch: their team id, and their options made ready for the steps. In: tokens. Out: what is known of
 * each; an unknown token is absent. Options are read once per change of the project, which the catalogue shows by
 * another object; it asks Postgres in the background, so a change is obeyed within 5 s and hardly a batch waits for it.
 * While a project gets another token both may be in one batch, the old one with the options of before: in one batch a
 * team has one set of options, whichever token an event names.
 */
import { ingestionOptionsIn, type Project } from '../catalog/index.ts'
import type { Logger } from '../observe/index.ts'
import { ingestMetrics } from './metrics.ts'
import { type IngestProject, withDefaults } from './project-options.ts'

export type ProjectsOf = (tokens: Set<string>) => Promise<ReadonlyMap<string, IngestProject>>

/** What `projectsOf` asks: the catalogue of projects. */
export type ProjectLookup = { lookup(tokens: Set<string>): Promise<Map<string, Project | undefined>> }

/** Those of which new events are taken. */
export function openOnes(projects: ReadonlyMap<string, IngestProject>): ReadonlyMap<string, IngestProject> {
  for (const { closed } of projects.values())
    if (closed) return new Map([...projects].filter(([, project]) => !project.closed))
  return projects
}

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
    const closed = project.state === 'closed'
    const made = { teamId: project.teamId, options: withDefaults(options), closed }
    ready.set(project, made)
    return made
  }
  return async (tokens) => {
    const found = new Map<string, IngestProject>()
    const byTeam = new Map<number, IngestProject>()
    for (const [token, project] of await catalog.lookup(tokens)) {
      if (!project) continue
      const made = byTeam.get(project.teamId) ?? ready.get(project) ?? makeReady(project)
      byTeam.set(project.teamId, made)
      found.set(token, made)
    }
    return found
  }
}
