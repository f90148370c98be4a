/**
 * Transformations from outside: a folder is tested, tried and published, works on live traffic, what it fails on comes
 * back once it is mended, an earlier version is brought back; and the audit stays exact.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const TEST_MS = 120_000
const WITHIN_MS = 30_000

describe('I4: what transformations make of events', () => {
  let product: Product
  let folder: string
  beforeAll(async () => {
    product = await startProduct()
    folder = join(product.dataDir, 'transformations')
    await mkdir(join(folder, 'cases'), { recursive: true })
  }, TEST_MS)
  afterAll(async () => {
    await product?.stop()
  }, TEST_MS)

  async function write(code: string, expected: unknown): Promise<void> {
    const steps = [
      { name: 'hide', use: 'mask', options: { properties: ['email'] } },
      { name: 'code', file: 'code.ts' },
    ]
    await writeFile(join(folder, 'transformations.json'), JSON.stringify({ steps }))
    await writeFile(join(folder, 'code.ts'), code)
    const one = { name: 'one', input: { properties: { email: 'a@b.c' } }, expected }
    await writeFile(join(folder, 'cases', 'one.json'), JSON.stringify(one))
  }

  async function send(...events: object[]): Promise<void> {
    const batch = events.map((event) => ({ distinct_id: 'ada', ...event }))
    const response = await fetch(`${product.captureUrl}/batch/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ api_key: product.token, batch }),
    })
    expect(response.status).toBe(200)
  }

  async function run(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await product.run(...args)
    expect([args, code, code === 0 ? '' : stderr + stdout]).toEqual([args, 0, ''])
    return stdout
  }

  const rows = () =>
    product.sql<{ event: string; uuid: string; properties: string; sub: number }>(
      'SELECT event, toString(uuid) AS uuid, properties, _sub AS sub FROM events ORDER BY _offset, _partition, _sub',
    )

  test(
    'is tested, published, mended and brought back',
    async () => {
      const broken = `export default (event) => {
        if (event.event === 'odd') throw new Error('what is this')
        return event.event === 'two' ? [event, { ...event, event: 'half' }] : event
      }`
      await write(broken, [{ properties: { email: 'a@b.c' } }])
      const failed = await product.run('transform', 'test', folder)
      expect([failed.code, failed.stdout]).toEqual([
        1,
        expect.stringContaining('properties.email: "a@b.c" → "***"'),
      ])
      expect((await product.run('transform', 'publish', folder)).code).toBe(1)
      await write(broken, [{ properties: { email: '***' } }])
      expect(await run('transform', 'test', folder)).toContain('1 passed, 0 failed')

      await send({ event: 'before', properties: { email: 'x@y.z' } })
      await waitFor('the event before', async () => (await rows()).length === 1, WITHIN_MS)
      const tried = await run('transform', 'try', folder, '--last', '5')
      expect(tried).toContain('properties.email: "x@y.z" → "***"')
      await run('transform', 'publish', folder, '--note', 'first')
      await waitFor(
        'the set to hold',
        async () => {
          await send({ event: 'probe', properties: { email: 'x@y.z' } })
          return (await rows()).some(
            ({ event, properties }) => event === 'probe' && properties.includes('***'),
          )
        },
        WITHIN_MS,
      )

      await send({ event: 'two', properties: { email: 'x@y.z' } }, { event: 'odd' })
      await waitFor('both rows', async () => (await rows()).some(({ event }) => event === 'half'), WITHIN_MS)
      const [two, half] = (await rows()).filter(({ event }) => event === 'two' || event === 'half')
      expect([two!.sub, half!.sub, JSON.parse(half!.properties).email]).toEqual([0, 1, '***'])
      const traced = await run('trace', two!.uuid)
      expect(traced).toContain("version 1 of its project's transformations changed it")
      const letters = async () => JSON.parse(await run('dead-letters', 'list', '--json'))
      await waitFor('the dead letter', async () => (await letters()).total === 1, WITHIN_MS)
      expect((await letters()).letters[0].detail).toContain('code@1 (exception, line 2): Error: what is this')

      await write('export default (event) => event', [{ properties: { email: '***' } }])
      await run('transform', 'publish', folder, '--after', '1')
      expect((await product.run('transform', 'publish', folder, '--after', '1')).code).toBe(1)
      await waitFor(
        'the mended set',
        async () => {
          await run('dead-letters', 'replay', '--all', '--yes')
          return (await rows()).some(({ event }) => event === 'odd')
        },
        WITHIN_MS,
      )
      await run('transform', 'rollback', '--to', '0')
      const list = JSON.parse(await run('transform', 'list', '--json'))
      expect(list.map(({ version, note }: { version: number; note: string }) => [version, note])).toEqual([
        [3, 'back to version 0'],
        [2, ''],
        [1, 'first'],
      ])
      await waitFor(
        'nothing to hold',
        async () => {
          await send({ event: 'after', properties: { email: 'x@y.z' } })
          return (await rows()).some(
            ({ event, properties }) => event === 'after' && properties.includes('x@y.z'),
          )
        },
        WITHIN_MS,
      )
      const audited = JSON.parse(await run('audit', '--json'))
      expect(audited.exact).toBe(true)
    },
    TEST_MS,
  )
})
