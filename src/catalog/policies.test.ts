import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { policyIn, readPolicy, setPolicy } from './policies.ts'
import { createProject, readProject } from './projects.ts'

setDefaultTimeout(60_000)

const UUID = '018f4b2e-0000-7000-8000-000000000001'

describe('a policy that is read', () => {
  test('keeps every field, uuids in canonical spelling', () => {
    const policy = {
      restrictions: [
        {
          action: 'drop',
          distinct_ids: ['a'],
          events: ['e'],
          uuids: [UUID.toUpperCase().replaceAll('-', '')],
        },
        { action: 'skip_person_processing' },
      ],
      events_per_month: 0,
      events_per_second: 5,
      burst: 7,
      lane: 'historical',
    }
    const [first, second] = policy.restrictions
    expect(readPolicy(policy)).toEqual({
      ...policy,
      restrictions: [{ ...first, uuids: [UUID] }, second],
    } as never)
    expect(readPolicy({})).toEqual({})
  })

  test('is every example of the guide', async () => {
    const guide = await Bun.file(join(import.meta.dir, '../../docs/guides/policies.md')).text()
    const examples = [...guide.matchAll(/```json\n([\s\S]*?)```/g)].map(([, json]) => JSON.parse(json!))
    expect(examples.length).toBe(3)
    for (const example of examples) expect(readPolicy(example)).toEqual(example)
  })

  const wrong: [policy: unknown, says: string][] = [
    [
      [],
      'the policy is []; allowed is an object with restrictions, events_per_month, events_per_second, burst, lane',
    ],
    [null, 'the policy is null'],
    [{ quota: 1 }, 'quota is not known; known are restrictions, events_per_month'],
    [{ restrictions: {} }, 'restrictions is {}; allowed is a list of 1 to 100'],
    [{ restrictions: [] }, 'restrictions is "a list of 0"'],
    [{ restrictions: new Array(101).fill({ action: 'drop' }) }, 'restrictions is "a list of 101"'],
    [
      { restrictions: [{}] },
      'restrictions[0].action is missing; allowed is one of drop, dead_letter, historical',
    ],
    [{ restrictions: [{ action: 'delete' }] }, 'restrictions[0].action is "delete"'],
    [
      { restrictions: [{ action: 'drop', event: 'x' }] },
      'restrictions[0].event is not known; known are action',
    ],
    [{ restrictions: [{ action: 'drop', events: [] }] }, 'restrictions[0].events is "a list of 0"; allowed'],
    [
      { restrictions: [{ action: 'drop', events: ['a', 7] }] },
      'restrictions[0].events[1] is 7; allowed is a text',
    ],
    [{ restrictions: [{ action: 'drop', events: ['x'.repeat(201)] }] }, 'text of 1 to 200'],
    [{ restrictions: [{ action: 'drop', distinct_ids: ['a\0'] }] }, 'without NUL'],
    [{ restrictions: [{ action: 'drop', distinct_ids: ['\ud800'] }] }, 'restrictions[0].distinct_ids[0]'],
    [
      { restrictions: [{ action: 'drop', uuids: ['x'] }] },
      'restrictions[0].uuids[0] is "x"; allowed is a UUID',
    ],
    [{ events_per_month: -1 }, 'events_per_month is -1; allowed is a whole number from 0 to'],
    [{ events_per_month: 1.5 }, 'events_per_month is 1.5'],
    [{ events_per_second: 0 }, 'events_per_second is 0; allowed is a whole number from 1 to'],
    [{ events_per_second: '5' }, 'events_per_second is "5"'],
    [{ burst: 5 }, 'burst is there without events_per_second'],
    [{ lane: 'fast' }, 'lane is "fast"; allowed is one of main, historical'],
    [
      {
        restrictions: new Array(100).fill({
          action: 'drop',
          distinct_ids: new Array(20).fill('x'.repeat(1000)),
        }),
      },
      'longer than 1000000 characters',
    ],
  ]
  test.each(wrong)('%j is refused', (policy, says) => {
    expect(() => readPolicy(policy)).toThrow(says)
  })
})

describe('in the catalogue', () => {
  let server: TestPostgres
  beforeAll(async () => {
    server = await startTestPostgres()
  })
  beforeEach(async () => {
    await server.sql`DELETE FROM project`
    await createProject(server.sql, { name: 'shop', token: 'shop' })
    await server.sql`UPDATE project SET settings = '{"other": 1}'`
  })
  afterAll(() => server.stop())

  test('a policy is set, replaced and removed, and nothing else of the settings', async () => {
    await setPolicy(server.sql, 'shop', { events_per_month: 5, lane: 'main' })
    await setPolicy(server.sql, 'shop', { events_per_month: 6 })
    const { settings } = await readProject(server.sql, 'shop')
    expect(settings).toEqual({ other: 1, policy: { events_per_month: 6 } })
    expect(policyIn(settings)).toEqual({ events_per_month: 6 })
    await setPolicy(server.sql, 'shop', undefined)
    expect((await readProject(server.sql, 'shop')).settings).toEqual({ other: 1 })
    expect(policyIn({ other: 1 })).toBeUndefined()
  })

  test('a wrong policy changes nothing, and an unknown project is named', async () => {
    await expect(setPolicy(server.sql, 'shop', { lane: 'x' } as never)).rejects.toMatchObject({
      code: 'HR_POLICY_INVALID',
    })
    expect((await readProject(server.sql, 'shop')).settings).toEqual({ other: 1 })
    await expect(setPolicy(server.sql, 'nobody', {})).rejects.toMatchObject({ code: 'HR_PROJECT_NOT_FOUND' })
    await expect(readProject(server.sql, 'nobody')).rejects.toMatchObject({ status: 404 })
  })
})
