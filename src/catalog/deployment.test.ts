import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { bindDeployment } from './deployment.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres()
})
beforeEach(async () => {
  await server.sql`DELETE FROM deployment`
})
afterAll(() => server.stop())

test.each([
  ['embedded', 0, 8],
  ['kafka', 0, 64],
  ['embedded', 3, 3],
] as const)(
  'a deployment with the %s log and %p asked for is born with %p partitions',
  async (logKind, partitions, born) => {
    const first = await bindDeployment(server.sql, { logKind, partitions })
    expect(first.partitions).toBe(born)
    for (const again of [0, born]) {
      expect(await bindDeployment(server.sql, { logKind, partitions: again })).toEqual(first)
    }
  },
)

test('processes that start at once agree on one', async () => {
  const asked = [1, 2, 3, 4, 5].map(() => bindDeployment(server.sql, { logKind: 'embedded', partitions: 0 }))
  const ids = (await Promise.all(asked)).map(({ id }) => id)
  expect(new Set(ids).size).toBe(1)
})

test('another log is refused', async () => {
  await bindDeployment(server.sql, { logKind: 'embedded', partitions: 0 })
  await expect(bindDeployment(server.sql, { logKind: 'kafka', partitions: 0 })).rejects.toMatchObject({
    code: 'HR_DEPLOYMENT_MISMATCH',
    class: 'fatal',
    message: expect.stringMatching(
      /^this state was born with the embedded log and HEADRACE_LOG asks for kafka;/,
    ),
  })
})

test('another number of partitions is refused', async () => {
  await bindDeployment(server.sql, { logKind: 'kafka', partitions: 12 })
  await expect(bindDeployment(server.sql, { logKind: 'kafka', partitions: 64 })).rejects.toMatchObject({
    code: 'HR_DEPLOYMENT_MISMATCH',
    message: expect.stringMatching(/^this state was born with 12 partitions and HEADRACE_PARTITIONS is 64;/),
  })
})
