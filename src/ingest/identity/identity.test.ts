import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { personUuid } from '../../event/index.ts'
import { createIdentity, type Identity } from './index.ts'
import { event, identify, Lane, livingPersons, T0, wipe } from './test-support.ts'

let postgres: TestPostgres
let identity: Identity

beforeAll(async () => {
  postgres = await startTestPostgres()
  identity = createIdentity(postgres.sql)
}, 60_000)
afterAll(() => postgres?.stop())
beforeEach(() => wipe(postgres.sql))

test('a person is created, changed, joined with another', async () => {
  const lane = await Lane.open(postgres.sql)
  const first = await lane.commit(identity, [
    event('old', { set: { a: 1, b: 2 } }),
    event('new', { set: { b: 3, c: 4 }, timestampMs: T0 - 5 }),
  ])
  expect(first.stamps.map((stamp) => stamp.personUuid)).toEqual([personUuid(1, 'old'), personUuid(1, 'new')])
  await lane.commit(identity, [
    identify('new', 'old', { set: { d: 6, b: 3 }, setOnce: { a: 8, f: 9 }, nowMs: T0 + 1 }),
  ])
  const living = await livingPersons(postgres.sql)
  expect(living).toHaveLength(1)
  expect(living[0]).toMatchObject({
    uuid: personUuid(1, 'new'),
    properties: { a: 1, b: 3, c: 4, d: 6, f: 9 },
    created_ms: T0 - 5,
    is_identified: true,
    ids: ['new', 'old'],
  })
})
