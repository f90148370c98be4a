import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import {
  changeIngestionOptions,
  INGESTION_OPTIONS,
  type IngestionOptions,
  ingestionOptionsIn,
  readIngestionOptions,
} from './ingestion-options.ts'
import { createProject, readProject } from './projects.ts'

setDefaultTimeout(60_000)

const ALL: Required<IngestionOptions> = {
  anonymizeIps: true,
  personProcessing: 'off',
  dropEventsOlderThanSeconds: 86_400,
  cookieless: 'stateful',
  timezone: 'Europe/Berlin',
  suppressedProperties: ['$current_url'],
  propertyOrder: 'eventTime',
}

describe('options that are read', () => {
  test('every member, and none', () => {
    expect(readIngestionOptions(ALL)).toEqual(ALL)
    expect(Object.keys(ALL)).toEqual(INGESTION_OPTIONS)
    expect(readIngestionOptions({})).toEqual({})
    expect(readIngestionOptions({ suppressedProperties: [], timezone: 'UTC' })).toEqual({
      suppressedProperties: [],
      timezone: 'UTC',
    })
  })

  const wrong: [options: unknown, says: string][] = [
    [[], 'ingestion is []; allowed is an object with anonymizeIps, personProcessing'],
    [null, 'ingestion is null'],
    [{ anonymiseIps: true }, 'anonymiseIps is not known; known are anonymizeIps, personProcessing'],
    [{ anonymizeIps: 'true' }, 'anonymizeIps is "true"; allowed is true or false'],
    [{ personProcessing: false }, 'personProcessing is false; allowed is one of on, off'],
    [{ dropEventsOlderThanSeconds: 0 }, 'dropEventsOlderThanSeconds is 0; allowed is a whole number from 1'],
    [{ dropEventsOlderThanSeconds: 1.5 }, 'dropEventsOlderThanSeconds is 1.5'],
    [{ dropEventsOlderThanSeconds: '60' }, 'dropEventsOlderThanSeconds is "60"'],
    [{ cookieless: 'on' }, 'cookieless is "on"; allowed is one of off, stateless, stateful'],
    [{ timezone: 'Europe/Atlantis' }, 'timezone is "Europe/Atlantis"; allowed is a time zone'],
    [{ timezone: '+01:00' }, 'timezone is "+01:00"'],
    [{ timezone: 5 }, 'timezone is 5'],
    [{ suppressedProperties: '$os' }, 'suppressedProperties is "$os"; allowed is a list of 0 to 1000'],
    [{ suppressedProperties: [''] }, 'suppressedProperties[0] is ""; allowed is a text of 1 to 400'],
    [{ suppressedProperties: ['a\0'] }, 'suppressedProperties[0]'],
    [{ propertyOrder: 'time' }, 'propertyOrder is "time"; allowed is one of arrival, eventTime'],
  ]
  test.each(wrong)('%j is refused', (options, says) => {
    expect(() => readIngestionOptions(options)).toThrow(says)
  })
})

describe('options that are stored keep no event out', () => {
  test('a member that cannot be read counts as absent, and is told; the others hold', () => {
    const stored = { anonymizeIps: true, personProcessing: 'maybe', fromTomorrow: 1, timezone: 'UTC' }
    const { options, problems } = ingestionOptionsIn({ ingestion: stored })
    expect(options).toEqual({ anonymizeIps: true, timezone: 'UTC' })
    expect(problems.map((problem) => problem.split(' is ')[0])).toEqual(['personProcessing', 'fromTomorrow'])
  })

  test.each([[null], ['x'], [[{ anonymizeIps: true }]], [7]])('%j is no object', (ingestion) => {
    const { options, problems } = ingestionOptionsIn({ ingestion })
    expect([options, problems.length]).toEqual([{}, 1])
  })

  test('no options are no problem', () => {
    expect(ingestionOptionsIn({ policy: {} })).toEqual({ options: {}, problems: [] })
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
    await server.sql`UPDATE project SET settings = '{"policy": {}}'`
  })
  afterAll(() => server.stop())

  const stored = async () => (await readProject(server.sql, 'shop')).settings

  test('options are set, changed and removed, and nothing else of the settings', async () => {
    expect(await changeIngestionOptions(server.sql, 'shop', () => ALL)).toEqual(ALL)
    expect(await stored()).toEqual({ policy: {}, ingestion: ALL })
    await changeIngestionOptions(server.sql, 'shop', (before) => ({ ...(before as object), timezone: 'UTC' }))
    expect(await stored()).toEqual({ policy: {}, ingestion: { ...ALL, timezone: 'UTC' } })
    expect(await changeIngestionOptions(server.sql, 'shop', () => undefined)).toBeUndefined()
    expect(await stored()).toEqual({ policy: {} })
  })

  test('two changes at once both hold', async () => {
    const add = (change: object) =>
      changeIngestionOptions(server.sql, 'shop', (before) => ({ ...(before as object), ...change }))
    await Promise.all([add({ anonymizeIps: true }), add({ timezone: 'UTC' }), add({ cookieless: 'off' })])
    expect(await stored()).toEqual({
      policy: {},
      ingestion: { anonymizeIps: true, timezone: 'UTC', cookieless: 'off' },
    })
  })

  test('wrong options change nothing, and an unknown project is named', async () => {
    const wrong = changeIngestionOptions(server.sql, 'shop', () => ({ timezone: 'x/y' }))
    await expect(wrong).rejects.toMatchObject({ code: 'HR_INGESTION_OPTIONS_INVALID' })
    expect(await stored()).toEqual({ policy: {} })
    const nobody = changeIngestionOptions(server.sql, 'nobody', () => ({}))
    await expect(nobody).rejects.toMatchObject({ code: 'HR_PROJECT_NOT_FOUND' })
  })
})
