/**
 * What a project says of cookieless events in its settings, member `cookieless`: `mode`, and the `timezone` of events
 * that name none. Reading for the pipeline never fails: what is not understood means that nobody agreed to it.
 */
import { guardState, type Project, type Sql } from '../../catalog/index.ts'
import { errorTable } from '../../event/index.ts'
import { isZone } from './calendar-day.ts'

export const COOKIELESS_ERRORS = {
  HR_COOKIELESS_INVALID: {
    class: 'rejected',
    status: 400,
    meaning: 'The cookieless settings of a project have a mode or a time zone that is not known.',
  },
} as const
const cookielessError = errorTable(COOKIELESS_ERRORS)

/** `disabled` drops cookieless events. The two others are told apart in docs/guides/cookieless.md. */
export const COOKIELESS_MODES = ['disabled', 'stateless', 'stateful'] as const
export type CookielessMode = (typeof COOKIELESS_MODES)[number]

export type CookielessSettings = {
  mode: CookielessMode
  /** A name of the IANA database; absent: UTC. */
  timezone?: string
}

export type CookielessProject = CookielessSettings & { teamId: number }

/** What holds for the events of `project`. */
export function cookielessProject({
  teamId,
  settings,
}: Pick<Project, 'teamId' | 'settings'>): CookielessProject {
  const said = settings.cookieless as { mode?: unknown; timezone?: unknown } | null | undefined
  const mode = COOKIELESS_MODES.find((one) => one === said?.mode) ?? 'disabled'
  const timezone = said?.timezone
  return typeof timezone === 'string' ? { teamId, mode, timezone } : { teamId, mode }
}

/** Replaces the cookieless settings of the project `name`. Throws HR_COOKIELESS_INVALID; false when there is no such project. */
export async function setCookieless(sql: Sql, name: string, settings: CookielessSettings): Promise<boolean> {
  const { mode, timezone } = settings
  if (!COOKIELESS_MODES.includes(mode)) {
    throw cookielessError(
      'HR_COOKIELESS_INVALID',
      `mode is ${mode}; allowed is ${COOKIELESS_MODES.join(', ')}`,
    )
  }
  if (timezone !== undefined && !isZone(timezone)) {
    throw cookielessError(
      'HR_COOKIELESS_INVALID',
      `timezone is ${timezone}; allowed is a name such as Europe/Vienna`,
    )
  }
  const json = JSON.stringify({ mode, timezone })
  const rows = await guardState(
    'setting the cookieless mode',
    () => sql`
      UPDATE project SET settings = jsonb_set(settings, '{cookieless}', ${json}::text::jsonb)
      WHERE name = ${name} RETURNING team_id`,
  )
  return rows.length > 0
}
