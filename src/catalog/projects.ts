/** Projects and their tokens: what an SDK sends is a token, what everything else uses is the team id. */
import { randomBytes } from 'node:crypto'
import { errorTable } from '../event/index.ts'
import { guardState, type Sql } from './postgres.ts'

export const PROJECT_ERRORS = {
  HR_PROJECT_INVALID: {
    class: 'rejected',
    status: 400,
    meaning: 'A project needs a name of 1 to 100 characters and a token of 1 to 64 of A-Z a-z 0-9 _ -.',
  },
  HR_PROJECT_EXISTS: {
    class: 'rejected',
    status: 409,
    meaning: 'Another project has this name or this token.',
  },
  HR_PROJECT_NOT_FOUND: { class: 'rejected', status: 404, meaning: 'No project has this name.' },
} as const
const projectError = errorTable(PROJECT_ERRORS)

export type Project = {
  teamId: number
  name: string
  token: string
  /** What users change about a project at run time. */
  settings: Record<string, unknown>
  state: ProjectState
}

/**
 * On its way out (src/deletion/project.ts): capture does not know the token of one that is `closing`; ingest still
 * takes what was captured before, until it is `closed`.
 */
export type ProjectState = 'open' | 'closing' | 'closed'

export const DEFAULT_PROJECT = 'default'
/**
 * The project of the canary, whose events measure how fresh ClickHouse is. It has the last team id there is, and no list
 * shows it, so what it sends is in no customer's figures.
 */
export const CANARY_TEAM_ID = 2_147_483_647
const NAME_CHARACTERS_MAX = 100
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/

type ProjectRow = {
  team_id: number
  name: string
  token: string
  settings: Record<string, unknown>
  state: ProjectState
}

export function toProject(row: ProjectRow): Project {
  const { team_id: teamId, name, token, settings, state } = row
  return { teamId, name, token, settings, state }
}

export function projectNotFound(name: string) {
  return projectError(
    'HR_PROJECT_NOT_FOUND',
    `no project has the name "${name}"; \`headrace project list\` shows all`,
  )
}

/** The project with this name. Throws HR_PROJECT_NOT_FOUND. */
export async function readProject(sql: Sql, name: string): Promise<Project> {
  const [row] = await guardState(
    'reading a project',
    () => sql<ProjectRow[]>`SELECT team_id, name, token, settings, state FROM project WHERE name = ${name}`,
  )
  if (!row) throw projectNotFound(name)
  return toProject(row)
}

/** True when `token` could be a project's; nothing else is worth a question to Postgres. */
export function isToken(token: string): boolean {
  return TOKEN.test(token)
}

/** What people paste by mistake where a project's token belongs, by the prefix that names it. */
const SECRET_KEYS: Readonly<Record<string, string>> = {
  phx_: 'a personal API key',
  phs_: 'a secret project key',
  pha_: 'an access token of OAuth',
  phr_: 'a refresh token of OAuth',
  sk_: 'a secret key',
  rk_: 'a restricted secret key',
}

/** What kind of secret `token` is, when its prefix says that it is one: it must never be a project's token. */
export function secretKeyKind(token: string): { prefix: string; kind: string } | undefined {
  for (const prefix in SECRET_KEYS) {
    if (token.startsWith(prefix)) return { prefix, kind: SECRET_KEYS[prefix]! }
  }
  return undefined
}

/** Throws HR_PROJECT_INVALID or HR_PROJECT_EXISTS. Without a token it gets a random one. */
export async function createProject(
  sql: Sql,
  { name, token = randomToken() }: { name: string; token?: string },
): Promise<Project> {
  const [row] = await insertProject(sql, name, token)
  if (row) return toProject(row)
  throw projectError('HR_PROJECT_EXISTS', `there is already a project with the name "${name}" or this token`)
}

/** All of the customers', oldest first. */
export async function listProjects(sql: Sql): Promise<Project[]> {
  const rows = await guardState(
    'listing the projects',
    () =>
      sql<
        ProjectRow[]
      >`SELECT team_id, name, token, settings, state FROM project WHERE team_id <> ${CANARY_TEAM_ID} ORDER BY team_id`,
  )
  return rows.map(toProject)
}

/**
 * Project `default`, created at the first call with `token` (empty = a random one). Later calls return it as it is.
 * Throws HR_PROJECT_EXISTS when another project has the token.
 */
export async function ensureDefaultProject(sql: Sql, token = ''): Promise<Project> {
  await insertProject(sql, DEFAULT_PROJECT, token || randomToken())
  const [row] = await guardState(
    'reading project default',
    () =>
      sql<
        ProjectRow[]
      >`SELECT team_id, name, token, settings, state FROM project WHERE name = ${DEFAULT_PROJECT}`,
  )
  if (row) return toProject(row)
  throw projectError(
    'HR_PROJECT_EXISTS',
    `the token for project ${DEFAULT_PROJECT} is another project's; choose another one with HEADRACE_PROJECT_TOKEN`,
  )
}

/** The hidden project of the canary, created at the first call. */
export async function ensureCanaryProject(sql: Sql): Promise<Project> {
  const [row] = await guardState(
    'reading the project of the canary',
    () => sql<ProjectRow[]>`
      INSERT INTO project AS p (team_id, name, token) OVERRIDING SYSTEM VALUE
      VALUES (${CANARY_TEAM_ID}, 'headrace canary', ${randomToken()})
      ON CONFLICT (team_id) DO UPDATE SET name = p.name RETURNING team_id, name, token, settings, state`,
  )
  return toProject(row!)
}

/** No row when the name or the token is taken. */
async function insertProject(sql: Sql, name: string, token: string): Promise<ProjectRow[]> {
  if (name.trim() === '' || [...name].length > NAME_CHARACTERS_MAX || name.includes('\0')) {
    throw projectError('HR_PROJECT_INVALID', `a project's name has 1 to ${NAME_CHARACTERS_MAX} characters`)
  }
  if (!TOKEN.test(token)) {
    throw projectError('HR_PROJECT_INVALID', "a project's token is 1 to 64 of A-Z a-z 0-9 _ -")
  }
  const secret = secretKeyKind(token)
  if (secret) {
    throw projectError(
      'HR_PROJECT_INVALID',
      `a token that begins with ${secret.prefix} is taken for ${secret.kind} and refused by capture; begin it with phc_`,
    )
  }
  return guardState(
    'creating a project',
    () => sql<ProjectRow[]>`
      INSERT INTO project (name, token) VALUES (${name}, ${token}) ON CONFLICT DO NOTHING
      RETURNING team_id, name, token, settings, state`,
  )
}

/** 256 bits. The prefix is the one by which SDKs and people know a public key from a secret one. */
function randomToken(): string {
  return `phc_${randomBytes(32).toString('base64url')}`
}
