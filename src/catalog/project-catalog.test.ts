import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { startEmbeddedPostgres } from './embedded/index.ts'
import { openPostgres, type Sql } from './postgres.ts'
import { PROJECTS_STALE_MS, ProjectCatalog, type ProjectCatalogOptions } from './project-catalog.ts'
import { createProject } from './projects.ts'

setDefaultTimeout(60_000)

const NEVER = 2 ** 30

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`DELETE FROM project`
})
afterAll(() => server.stop())

/** Counts the queries, so that a test can tell a cache from a question. */
function counting(sql: Sql): { sql: Sql; queries: () => number } {
  let queries = 0
  const counted = new Proxy(sql, {
    apply: (target, self, args: unknown[]) => {
      queries++
      return Reflect.apply(target, self, args)
    },
  })
  return { sql: counted, queries: () => queries }
}

async function withCatalog(
  options: ProjectCatalogOptions,
  work: (catalog: ProjectCatalog, queries: () => number) => Promise<void>,
): Promise<void> {
  const { sql, queries } = counting(server.sql)
  const catalog = new ProjectCatalog(sql, { refreshMs: NEVER, ...options })
  try {
    await work(catalog, queries)
  } finally {
    await catalog.close()
  }
}

const set = (...tokens: string[]) => new Set(tokens)

test('a batch of new tokens costs one query, known ones none', () =>
  withCatalog({}, async (catalog, queries) => {
    const a = await createProject(server.sql, { name: 'a', token: 'a' })
    const b = await createProject(server.sql, { name: 'b', token: 'b' })
    const found = await catalog.lookup(set('a', 'b', 'unknown'))
    expect([...found]).toEqual([
      ['a', a],
      ['b', b],
      ['unknown', undefined],
    ])
    expect(queries()).toBe(1)
    expect(await catalog.lookup(set('b', 'unknown', 'a'))).toEqual(found)
    expect(queries()).toBe(1)
  }))

test('what cannot be a token is unknown without a question', () =>
  withCatalog({}, async (catalog, queries) => {
    const found = await catalog.lookup(set('', 'a\0b', 'ä', 'x'.repeat(65)))
    expect([...found.values()]).toEqual([undefined, undefined, undefined, undefined])
    expect(queries()).toBe(0)
  }))

test('an unknown token is asked for again after its time', async () => {
  let now = 0
  await withCatalog({ unknownMs: 5_000, now: () => now }, async (catalog) => {
    expect((await catalog.lookup(set('late'))).get('late')).toBeUndefined()
    const late = await createProject(server.sql, { name: 'late', token: 'late' })
    now = 4_999
    expect((await catalog.lookup(set('late'))).get('late')).toBeUndefined()
    now = 5_000
    expect((await catalog.lookup(set('late'))).get('late')).toEqual(late)
  })
})

test('changed and removed projects are seen by the refresh, all in one query', () =>
  withCatalog({ unknownMs: 0 }, async (catalog, queries) => {
    await createProject(server.sql, { name: 'a', token: 'a' })
    await createProject(server.sql, { name: 'b', token: 'b' })
    await catalog.lookup(set('a', 'b'))
    await server.sql`UPDATE project SET settings = '{"x": 1}' WHERE token = 'a'`
    await server.sql`DELETE FROM project WHERE token = 'b'`
    const before = queries()
    await Promise.all([catalog.refresh(), catalog.refresh()])
    expect(queries()).toBe(before + 1)
    const found = await catalog.lookup(set('a', 'b'))
    expect(found.get('a')?.settings).toEqual({ x: 1 })
    expect(found.get('b')).toBeUndefined()
  }))

test('the refresh comes by itself', () =>
  withCatalog({ refreshMs: 5 }, async (catalog) => {
    await createProject(server.sql, { name: 'a', token: 'a' })
    await catalog.lookup(set('a'))
    await server.sql`UPDATE project SET settings = '{"x": 1}'`
    const deadline = performance.now() + 10_000
    while ((await catalog.lookup(set('a'))).get('a')?.settings.x !== 1) {
      if (performance.now() > deadline) throw new Error('the change was not seen')
      await Bun.sleep(1)
    }
  }))

test('both memories are bounded, and the longest unused goes first', () =>
  withCatalog({ knownMax: 2, unknownMax: 2 }, async (catalog, queries) => {
    for (const token of ['a', 'b', 'c']) await createProject(server.sql, { name: token, token })
    await catalog.lookup(set('a'))
    await catalog.lookup(set('b'))
    await catalog.lookup(set('a'))
    await catalog.lookup(set('c'))
    const before = queries()
    await catalog.lookup(set('a', 'c'))
    expect(queries()).toBe(before)
    await catalog.lookup(set('b'))
    expect(queries()).toBe(before + 1)

    for (const token of ['x', 'y', 'z']) await catalog.lookup(set(token))
    const later = queries()
    await catalog.lookup(set('y', 'z'))
    expect(queries()).toBe(later)
    await catalog.lookup(set('x'))
    expect(queries()).toBe(later + 1)
  }))

test('while Postgres is away, known tokens go on and others say that it is away', async () => {
  const own = await startTestPostgres()
  const sql = openPostgres({ url: own.url, name: 'test', connectionsMax: 1 })
  const catalog = new ProjectCatalog(sql, { refreshMs: 5 })
  let again: Awaited<ReturnType<typeof startEmbeddedPostgres>> | undefined
  try {
    const a = await createProject(own.sql, { name: 'a', token: 'a' })
    await catalog.lookup(set('a'))
    await own.kill()
    await expect(catalog.refresh()).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
    expect(catalog.known('a')).toEqual(a)
    await expect(catalog.lookup(set('a', 'other'))).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })

    again = await startEmbeddedPostgres({ dataDir: own.dataDir })
    const deadline = performance.now() + 20_000
    while (!(await catalog.lookup(set('other')).catch(() => undefined))) {
      if (performance.now() > deadline) throw new Error('the catalog did not come back')
      await Bun.sleep(10)
    }
    expect((await catalog.lookup(set('a'))).get('a')).toEqual(a)
  } finally {
    await catalog.close()
    await sql.end({ timeout: 1 })
    await again?.stop()
    await own.stop()
  }
})

test('many who ask at once are one query, and those who come meanwhile one more', () =>
  withCatalog({}, async (catalog, queries) => {
    const a = await createProject(server.sql, { name: 'a', token: 'a' })
    const first = catalog.find('a')
    const rest = Array.from({ length: 500 }, (_, i) => catalog.find(i % 2 === 0 ? `unknown-${i}` : 'a'))
    expect(await first).toEqual(a)
    const found = await Promise.all(rest)
    expect(found.filter((project) => project === null)).toHaveLength(250)
    expect(found.filter((project) => project?.teamId === a.teamId)).toHaveLength(250)
    expect(queries()).toBe(2)
    expect(await catalog.find('unknown-0')).toBeNull()
    expect(await catalog.find('not a token')).toBeNull()
    expect(queries()).toBe(2)
  }))

test('as many wait as may, and the others are told at once that nobody can say', () =>
  withCatalog({ findTokensMax: 3 }, async (catalog, queries) => {
    const asked = Array.from({ length: 10 }, (_, i) => catalog.find(`t${i}`))
    // One is in the query, three wait.
    expect(await Promise.all(asked)).toEqual([...new Array(4).fill(null), ...new Array(6).fill(undefined)])
    expect(queries()).toBe(2)
  }))

test('a project that did not change stays the same object; a change is another one', () =>
  withCatalog({}, async (catalog) => {
    await createProject(server.sql, { name: 'a', token: 'a' })
    const before = await catalog.find('a')
    await catalog.refresh()
    expect(catalog.known('a')).toBe(before!)
    await server.sql`UPDATE project SET settings = '{"x": 1}' WHERE token = 'a'`
    await catalog.refresh()
    expect(catalog.known('a')).not.toBe(before!)
    expect(catalog.known('a')!.settings).toEqual({ x: 1 })
    await catalog.refresh()
    expect(catalog.known('a')!.settings).toEqual({ x: 1 })
  }))

test('a Postgres that does not answer is not waited for', async () => {
  const [locked] = await Promise.all([
    server.sql.reserve(),
    createProject(server.sql, { name: 'a', token: 'a' }),
  ])
  const catalog = new ProjectCatalog(server.sql, { refreshMs: NEVER, findMs: 50 })
  try {
    await locked`BEGIN`
    await locked`LOCK TABLE project`
    const [one, same, other] = [catalog.find('a'), catalog.find('a'), catalog.find('b')]
    expect(await Promise.all([one, same, other])).toEqual([undefined, undefined, undefined])
    await locked`ROLLBACK`
    const deadline = performance.now() + 10_000
    while ((await catalog.find('a')) === undefined) {
      if (performance.now() > deadline) throw new Error('the catalog did not come back')
      await Bun.sleep(1)
    }
    expect((await catalog.find('a'))?.name).toBe('a')
  } finally {
    locked.release()
    await catalog.close()
  }
})

test('what lookup answers was read lately, also where nothing reads in the background', async () => {
  let now = 0
  await withCatalog({ now: () => now }, async (catalog, queries) => {
    await createProject(server.sql, { name: 'a', token: 'a' })
    await catalog.lookup(set('a'))
    await server.sql`UPDATE project SET state = 'closed'`
    now = PROJECTS_STALE_MS
    expect((await catalog.lookup(set('a'))).get('a')?.state).toBe('open')
    expect(queries()).toBe(1)
    now = PROJECTS_STALE_MS + 1
    expect((await catalog.lookup(set('a'))).get('a')?.state).toBe('closed')
    await server.sql`DELETE FROM project`
    now += PROJECTS_STALE_MS + 1
    expect((await catalog.lookup(set('a'))).get('a')).toBeUndefined()
  })
})

test.each(['closing', 'closed'])(
  'a project that is %s is nobody’s at the door, and known behind it',
  (state) =>
    withCatalog({}, async (catalog) => {
      await createProject(server.sql, { name: 'a', token: 'a' })
      expect(await catalog.find('a')).toMatchObject({ state: 'open' })
      await server.sql`UPDATE project SET state = ${state}`
      await catalog.refresh()
      expect(catalog.known('a')).toBeNull()
      expect(await catalog.find('a')).toBeNull()
      expect((await catalog.lookup(set('a'))).get('a')).toMatchObject({ state })
    }),
)
