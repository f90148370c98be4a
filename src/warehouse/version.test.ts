/** Which versions of ClickHouse are refused, and where. */
import { expect, test } from 'bun:test'
import { startTcpProxy } from '../../test/support/tcp-proxy.ts'
import { startTestWarehouse } from '../../test/support/warehouse.ts'
import { openWarehouse } from './client.ts'
import { migrateWarehouse } from './migrate.ts'
import { checkVersion, isNewEnough } from './version.ts'

test.each([
  ['24.8.1.2684', true],
  ['24.8', true],
  ['24.12.3.47', true],
  ['25.3.2.39.altinitystable', true],
  ['26.1.1.1', true],
  ['24.7.6.8', false],
  ['24.3.18.7', false],
  ['23.8.16.40', false],
  ['', false],
  ['head', false],
])('%s: %p', (version, expected) => {
  expect(isNewEnough(version)).toBe(expected)
})

test('one that is too old gets no schema, and is told why', async () => {
  const live = await startTestWarehouse()
  const port = Number(new URL(live.url).port)
  const proxy = await startTcpProxy({ target: { host: '127.0.0.1', port } })
  const version = await checkVersion(live.warehouse)
  // Of the same length, since the answer says how long it is.
  const old = `1${version.slice(1)}`
  proxy.onAnswer = (_, chunk) => Buffer.from(chunk.toString('latin1').replace(version, old), 'latin1')
  const warehouse = openWarehouse({ url: `http://127.0.0.1:${proxy.port}` })
  try {
    await expect(migrateWarehouse(warehouse)).rejects.toMatchObject({
      code: 'HR_WAREHOUSE_TOO_OLD',
      class: 'fatal',
      message: expect.stringContaining(`"${old}"; needed is 24.8 or newer`),
    })
  } finally {
    await warehouse.close()
    await proxy.close()
    await live.stop()
  }
})
