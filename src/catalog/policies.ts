/**
 * What the owner of a project lets in: restrictions, a quota per month, a rate per second, the lane. One object in the
 * project's settings, the same whoever writes it. Reading it is strict: a policy that is misread keeps events out that
 * should be in, so an error names the field, the value and what is allowed. Who obeys it is capture's door.
 */
import { errorTable } from '../event/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { projectNotFound } from './projects.ts'
import { type Fields, strictReaders } from './strict-reader.ts'

export const POLICY_ERRORS = {
  HR_POLICY_INVALID: {
    class: 'rejected',
    status: 400,
    meaning:
      "A project's policy has a field that is not known, or a value that is not allowed; the sentence names both.",
  },
} as const
const policyError = errorTable(POLICY_ERRORS)

export const RESTRICTION_ACTIONS = ['drop', 'dead_letter', 'historical', 'skip_person_processing'] as const
export type RestrictionAction = (typeof RESTRICTION_ACTIONS)[number]

/** Holds for an event that is in each of the lists that are there; without any it holds for all events. */
export type Restriction = {
  action: RestrictionAction
  distinct_ids?: string[]
  events?: string[]
  uuids?: string[]
}

export const LANES = ['main', 'historical'] as const

export type ProjectPolicy = {
  restrictions?: Restriction[]
  /** Stored events per calendar month, UTC. */
  events_per_month?: number
  /** Per capture process. */
  events_per_second?: number
  /** Events that may come at once after a pause. Without it ten seconds' worth. */
  burst?: number
  /** Where events go that no request asks a lane for. */
  lane?: (typeof LANES)[number]
}

export const DEFAULT_BURST_SECONDS = 10
const RESTRICTIONS_MAX = 100
const FILTER_VALUES_MAX = 10_000
/** UTF-16 units. The header of an event keeps as much of its name. */
const NAME_UNITS_MAX = 200
const DISTINCT_ID_UNITS_MAX = 1_000
const EVENTS_PER_MONTH_MAX = 1e15
const EVENTS_PER_SECOND_MAX = 1e6
/** So that a thousand projects with policies are megabytes and not gigabytes in every capture process. */
const POLICY_UNITS_MAX = 1_000_000

const { choice, integer, list, object, text, uuid } = strictReaders('the policy', (sentence) =>
  policyError('HR_POLICY_INVALID', sentence),
)

// An empty list of filters would read like "for none" and hold for all, so it is refused.
const RESTRICTION: Fields<Restriction> = {
  action: choice(RESTRICTION_ACTIONS),
  distinct_ids: list(1, FILTER_VALUES_MAX, text(DISTINCT_ID_UNITS_MAX)),
  events: list(1, FILTER_VALUES_MAX, text(NAME_UNITS_MAX)),
  uuids: list(1, FILTER_VALUES_MAX, uuid),
}

const POLICY: Fields<ProjectPolicy> = {
  restrictions: list(1, RESTRICTIONS_MAX, object(RESTRICTION, ['action'])),
  events_per_month: integer(0, EVENTS_PER_MONTH_MAX),
  events_per_second: integer(1, EVENTS_PER_SECOND_MAX),
  burst: integer(1, EVENTS_PER_SECOND_MAX * DEFAULT_BURST_SECONDS),
  lane: choice(LANES),
}

/** The policy that `value`, parsed JSON, is. Throws HR_POLICY_INVALID. */
export function readPolicy(value: unknown): ProjectPolicy {
  const policy = object(POLICY, [])(value, 'the policy')
  if (policy.burst !== undefined && policy.events_per_second === undefined) {
    throw policyError(
      'HR_POLICY_INVALID',
      'burst is there without events_per_second, whose burst it would be',
    )
  }
  if (JSON.stringify(policy).length > POLICY_UNITS_MAX) {
    throw policyError('HR_POLICY_INVALID', `the policy is longer than ${POLICY_UNITS_MAX} characters as JSON`)
  }
  return policy
}

/** The policy in a project's settings, or undefined when it has none. Throws HR_POLICY_INVALID. */
export function policyIn(settings: Record<string, unknown>): ProjectPolicy | undefined {
  return settings.policy === undefined ? undefined : readPolicy(settings.policy)
}

/** Replaces the policy of the project `name`; undefined removes it. Throws HR_PROJECT_NOT_FOUND, HR_POLICY_INVALID. */
export async function setPolicy(sql: Sql, name: string, policy: ProjectPolicy | undefined): Promise<void> {
  const json = policy === undefined ? null : JSON.stringify(readPolicy(policy))
  const rows = await guardState(
    'setting a policy',
    () => sql`
      UPDATE project
      SET settings = CASE WHEN ${json}::text IS NULL THEN settings - 'policy'
                          ELSE jsonb_set(settings, '{policy}', ${json}::text::jsonb) END
      WHERE name = ${name} RETURNING team_id`,
  )
  if (rows.length === 0) throw projectNotFound(name)
}
