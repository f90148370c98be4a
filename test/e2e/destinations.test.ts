/** A destination from the command line, on the product as a user runs it: events in over HTTP, webhooks out, and what is said of them. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { type Received, Receiver, verifies } from '../../src/deliver/deliver.fixture.ts'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

setDefaultTimeout(120_000)
const WITHIN_MS = 30_000

let product: Product
let receiver: Receiver
beforeAll(async () => {
  receiver = new Receiver()
  product = await startProduct({ env: { HEADRACE_DELIVER_ALLOW: '127.0.0.1' } })
})
afterAll(async () => {
  await product?.stop()
  await receiver.stop()
})

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await product.run(...args)
  if (code !== 0) throw new Error(`headrace ${args.join(' ')} ended with ${code}: ${stdout}${stderr}`)
  return stdout
}

async function capture(...events: string[]): Promise<void> {
  const batch = events.map((event, n) => ({ event, distinct_id: 'ada', properties: { amount: n } }))
  const response = await fetch(`${product.captureUrl}/batch/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ api_key: product.token, batch }),
  })
  expect(response.status).toBe(200)
}

test('create, test, deliver, show, pause, resume, list, replay, delete', async () => {
  const created = await run('destination', 'create', 'crm', '--url', receiver.url, '--event', 'order paid')
  const secret = /whsec_\S+/.exec(created)![0]
  expect(await run('destination', 'test', 'crm')).toStartWith('delivered: 200')
  expect(receiver.got.splice(0)).toHaveLength(1)

  await capture('order paid', 'page seen', 'order paid')
  await waitFor('two webhooks', () => receiver.got.length === 2, WITHIN_MS)
  for (const got of receiver.got) expect(verifies(got as Received, secret)).toBe(true)
  const [first] = receiver.got.map(({ body }) => JSON.parse(body))
  expect(first.data).toMatchObject({ event: 'order paid', distinct_id: 'ada', person: { properties: {} } })

  let shown = {
    state: '',
    secrets: {},
    report: { seen: 0, delivered: 0, filtered: 0, unaccounted: 0, partitions: 0 },
  }
  await waitFor(
    'the counts',
    async () => {
      shown = JSON.parse(await run('destination', 'show', 'crm', '--json'))
      return shown.report.seen >= 3
    },
    WITHIN_MS,
    () => JSON.stringify(shown),
  )
  expect(shown.report).toMatchObject({ delivered: 2, filtered: shown.report.seen - 2, unaccounted: 0 })
  expect(JSON.stringify(shown)).not.toContain(secret)
  expect(JSON.stringify(await product.output)).not.toContain(secret)

  await run('destination', 'pause', 'crm')
  await run('destination', 'resume', 'crm')
  await waitFor(
    'their rows',
    async () => JSON.parse(await run('deliveries', 'list', '--json', '--state', 'delivered')).length === 2,
    WITHIN_MS,
  )
  const uuid = first.data.uuid as string
  expect(JSON.parse(await run('deliveries', 'show', uuid, '--json'))).toMatchObject([
    { uuid, state: 'delivered', status: 200 },
  ])

  type Audit = { compared: { partitions: number; seen: number; stored: number }; ended: number; rows: number }
  let audits: Audit[] = []
  await waitFor(
    'an audit of all partitions',
    async () => {
      audits = JSON.parse(await run('deliveries', 'audit', '--json'))
      return audits[0]!.compared.partitions === shown.report.partitions
    },
    WITHIN_MS,
    () => JSON.stringify(audits),
  )
  expect(audits[0]).toMatchObject({ compared: { seen: 3, stored: 3 }, ended: 2, rows: 2 })

  expect(await run('destination', 'replay', 'crm', '--from', '1h', '--dry-run')).toStartWith('2 events since')
  await run('destination', 'replay', 'crm', '--from', '1h')
  await waitFor('the same two again', () => receiver.got.length === 4, WITHIN_MS)
  expect(new Set(receiver.got.map(({ id }) => id)).size).toBe(2)

  expect((await product.run('destination', 'delete', 'crm')).code).toBe(2)
  await run('destination', 'delete', 'crm', '--yes')
  expect(JSON.parse(await run('destination', 'list', '--json'))).toEqual([])
})
