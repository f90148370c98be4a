import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createProject, ensureDefaultProject, listProjects, secretKeyKind } from './projects.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`DELETE FROM project`
})
afterAll(() => server.stop())

test('a project without a token gets one that no one can guess', async () => {
  const one = await createProject(server.sql, { name: 'one' })
  const two = await createProject(server.sql, { name: 'two' })
  expect(one.token).toMatch(/^phc_[A-Za-z0-9_-]{43}$/)
  expect(two.token).not.toBe(one.token)
  expect(await listProjects(server.sql)).toEqual([one, two])
})

test.each([
  ['an empty name', { name: '' }],
  ['a name of blanks', { name: '  ' }],
  ['a long name', { name: 'x'.repeat(101) }],
  ['a zero byte in the name', { name: 'a\0b' }],
  ['an empty token', { name: 'a', token: '' }],
  ['a long token', { name: 'a', token: 'x'.repeat(65) }],
  ['a token with other characters', { name: 'a', token: 'ä' }],
])('%s is refused', async (_, project) => {
  await expect(createProject(server.sql, project)).rejects.toMatchObject({
    code: 'HR_PROJECT_INVALID',
    status: 400,
  })
  expect(await listProjects(server.sql)).toEqual([])
})

test.each([
  ['name', { name: 'taken', token: 'other' }],
  ['token', { name: 'other', token: 'taken' }],
])('a %s that another project has is refused', async (_, project) => {
  await createProject(server.sql, { name: 'taken', token: 'taken' })
  await expect(createProject(server.sql, project)).rejects.toMatchObject({
    code: 'HR_PROJECT_EXISTS',
    status: 409,
  })
})

test('project default is created once, with the token of the first time', async () => {
  const first = await ensureDefaultProject(server.sql, 'my_token')
  expect(first).toMatchObject({ name: 'default', token: 'my_token', settings: {} })
  expect(await ensureDefaultProject(server.sql, 'another')).toEqual(first)
  expect(await ensureDefaultProject(server.sql)).toEqual(first)
})

test('processes that start at once agree on one project default', async () => {
  const made = await Promise.all([1, 2, 3, 4].map(() => ensureDefaultProject(server.sql)))
  expect(new Set(made.map(({ token }) => token)).size).toBe(1)
})

test("project default cannot take another project's token", async () => {
  await createProject(server.sql, { name: 'other', token: 'taken' })
  await expect(ensureDefaultProject(server.sql, 'taken')).rejects.toThrow(
    'choose another one with HEADRACE_PROJECT_TOKEN',
  )
})

test.each(['phx_secret', 'phs_secret', 'sk_live_1'])(
  'a token that looks like a secret is refused: %s',
  async (token) => {
    await expect(createProject(server.sql, { name: `project ${token}`, token })).rejects.toMatchObject({
      code: 'HR_PROJECT_INVALID',
      message: expect.stringContaining(secretKeyKind(token)!.kind),
    })
  },
)
