/** Delivery end to end: embedded log, Postgres, a receiver on loopback. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { startEmbeddedPostgres } from '../catalog/index.ts'
import { DeliverBench, Receiver, SIGNING, verifies } from './deliver.fixture.ts'

setDefaultTimeout(60_000)
let postgres: TestPostgres
let bench: DeliverBench
let receiver: Receiver
beforeAll(async () => {
  postgres = await startTestPostgres()
})
afterAll(() => postgres.stop())
beforeEach(async () => {
  bench = await DeliverBench.open(postgres)
  receiver = new Receiver()
})
afterEach(async () => {
  await bench.close()
  await receiver.stop()
})

test('every event is delivered once, signed, and has its row; those that the filter leaves out are counted', async () => {
  const { id } = await bench.destination('all', receiver.url)
  const paid = await bench.destination('paid', receiver.url, { filter: { events: ['paid'] } })
  await bench.deliver()
  const rows = await bench.events(50, (n) => ({ event: n % 5 === 0 ? 'paid' : 'seen' }))
  await bench.events(10, undefined, 1)
  const sums = await bench.waitForSums('60 delivered', id, ({ delivered }) => delivered === 60)
  expect(sums).toMatchObject({ seen: 60, filtered: 0, failed: 0, waiting: 0 })
  const named = await bench.waitForSums('the named ones', paid.id, ({ seen }) => seen === 60)
  expect(named).toMatchObject({ delivered: 10, filtered: 50 })
  expect(receiver.got).toHaveLength(70)
  expect(receiver.ids.size).toBe(70)
  for (const got of receiver.got) expect(verifies(got, SIGNING)).toBe(true)
  const first = JSON.parse(receiver.got.find(({ body }) => body.includes(rows[0]!.uuid))!.body)
  expect(first).toMatchObject({
    type: 'event',
    data: { event: 'paid', distinct_id: 'user-0', properties: { n: 0 } },
  })
  const outcomes = [...(await bench.outcomes()).values()]
  expect(outcomes).toHaveLength(70)
  expect(new Set(outcomes.map(({ state }) => state))).toEqual(new Set(['delivered']))
})

test('during an outage others go on, nothing is lost, and afterwards the destination is attached again', async () => {
  const other = new Receiver()
  const broken = await bench.destination('broken', receiver.url)
  const healthy = await bench.destination('healthy', other.url)
  let down = true
  receiver.answer = () => (down ? new Response('no', { status: 500 }) : new Response('{}'))
  await bench.deliver()
  await bench.events(300)
  await bench.waitForSums('the healthy one', healthy.id, ({ delivered }) => delivered === 300)
  const during = await bench.sums(broken.id)
  expect(during.detached).toBeGreaterThan(0)
  // What an outage costs is a row per partition, not per event.
  expect(during.waiting).toBeLessThan(20)
  down = false
  await bench.events(100)
  await bench.waitForSums('the broken one', broken.id, ({ delivered }) => delivered === 400)
  await bench.waitForSums('attached again', broken.id, ({ detached }) => detached === 0)
  expect(other.got).toHaveLength(400)
  await other.stop()
})

test('one event that the receiver cannot bear is tried again alone, and those behind it go on', async () => {
  const { id } = await bench.destination('picky', receiver.url, { retry_for_s: 1 })
  receiver.answer = ({ body }) =>
    body.includes('"n":7,') || body.includes('"n":7}')
      ? new Response('bad', { status: 400 })
      : new Response('{}')
  await bench.deliver()
  await bench.events(20)
  await bench.waitForSums('all but one', id, ({ delivered, waiting }) => delivered === 19 && waiting === 1)
  const sums = await bench.waitForSums('given up', id, ({ failed }) => failed === 1)
  expect(sums).toMatchObject({ seen: 20, delivered: 19, waiting: 0 })
  const [failed] = [...(await bench.outcomes()).values()].filter(({ state }) => state === 'failed')
  expect(failed).toMatchObject({ status: 400, response: 'bad' })
  expect(failed!.attempts).toBeGreaterThan(1)
})

test('a paused destination gets nothing and misses nothing', async () => {
  const { id } = await bench.destination('paused', receiver.url)
  await bench.deliver()
  await bench.events(10)
  await bench.waitForSums('ten', id, ({ delivered }) => delivered === 10)
  await bench.store.setState(id, 'paused', 'by hand')
  let sent = 10
  await waitFor(
    'paused',
    async () => {
      await bench.events(1)
      sent++
      return (await bench.sums(id)).detached > 0
    },
    10_000,
  )
  const before = (await bench.sums(id)).delivered
  await bench.events(10)
  sent += 10
  await bench.store.setState(id, 'active')
  expect(before).toBeLessThan(sent - 10)
  await bench.waitForSums('all', id, ({ delivered, detached }) => delivered === sent && detached === 0)
  expect(receiver.ids.size).toBe(sent)
  expect(receiver.got).toHaveLength(sent)
})

test('410 pauses the destination, and keeps the event', async () => {
  const { id } = await bench.destination('gone', receiver.url)
  receiver.answer = () => new Response('bye', { status: 410 })
  await bench.deliver()
  await bench.events(3)
  await waitFor('paused', async () => (await bench.store.get(1, 'gone')).state === 'paused', 10_000)
  receiver.answer = () => new Response('{}')
  await bench.store.setState(id, 'active')
  const sums = await bench.waitForSums('all', id, ({ delivered }) => delivered === 3)
  expect(sums).toMatchObject({ seen: 3, failed: 0 })
})

test('a receiver that hangs holds up nobody else', async () => {
  const other = new Receiver()
  const hanging = await bench.destination('hanging', receiver.url, { timeout_ms: 800 })
  const healthy = await bench.destination('healthy', other.url)
  let hangs = true
  receiver.answer = () => (hangs ? new Promise<Response>(() => {}) : new Response('{}'))
  await bench.deliver({ sharedWaitMs: 200 })
  await bench.events(10)
  await bench.waitForSums('the healthy one', healthy.id, ({ delivered }) => delivered === 10)
  await bench.waitForSums('detached', hanging.id, ({ detached }) => detached > 0)
  await bench.events(10)
  await bench.waitForSums('the healthy one again', healthy.id, ({ delivered }) => delivered === 20)
  hangs = false
  await bench.waitForSums('all', hanging.id, ({ delivered }) => delivered === 20)
  await other.stop()
})

test('batches carry an id per event; the receiver may refuse and postpone single ones', async () => {
  const { id } = await bench.destination('batched', receiver.url, { options: { batch: 10 } })
  receiver.answer = ({ body }) => {
    const { data } = JSON.parse(body) as { data: { id: string; properties: { n: number } }[] }
    const results = data.flatMap((item) => {
      if (item.properties.n === 3) return [{ id: item.id, status: 'refused', message: 'never' }]
      if (item.properties.n === 4 && data.length > 1) return [{ id: item.id, status: 'retry' }]
      return []
    })
    return Response.json({ results })
  }
  await bench.deliver()
  await bench.events(25)
  const sums = await bench.waitForSums('all', id, (s) => s.delivered === 24 && s.failed === 1)
  expect(sums).toMatchObject({ seen: 25, waiting: 0 })
})

test('in order per distinct_id, later events wait behind one that failed, and other ids do not', async () => {
  const { id } = await bench.destination('ordered', receiver.url, { ordered: true })
  receiver.answer = ({ body }, times) =>
    body.includes('"n":2,') || body.includes('"n":2}')
      ? new Response('', { status: times === 1 ? 500 : 200 })
      : new Response('{}')
  await bench.deliver()
  await bench.events(21, (n) => ({ distinct_id: `user-${n % 3}` }))
  await bench.waitForSums('all', id, ({ delivered }) => delivered === 21)
  const order = new Map<string, number[]>()
  const taken = new Set<string>()
  for (const { id: delivery, body } of receiver.got.toReversed()) {
    const { distinct_id, properties } = JSON.parse(body).data
    // The last attempt is the one that was taken.
    if (taken.has(delivery)) continue
    taken.add(delivery)
    order.set(distinct_id, [properties.n, ...(order.get(distinct_id) ?? [])])
  }
  for (const numbers of order.values()) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
})

test('a sample is made of whole users, and the same ones for every destination', async () => {
  const one = await bench.destination('one', receiver.url, {
    sample: 0.5,
    options: { headers: { 'x-to': 'one' } },
  })
  const two = await bench.destination('two', receiver.url, {
    sample: 0.5,
    options: { headers: { 'x-to': 'two' } },
  })
  await bench.deliver()
  await bench.events(200, (n) => ({ distinct_id: `visitor-${n % 50}` }))
  const sums = await bench.waitForSums('one', one.id, ({ seen }) => seen === 200)
  await bench.waitForSums('two', two.id, ({ seen }) => seen === 200)
  expect(sums.sampled_out + sums.delivered).toBe(200)
  expect(sums.delivered % 4).toBe(0)
  const users = (to: string) =>
    new Set(
      receiver.got
        .filter(({ headers }) => headers.get('x-to') === to)
        .map(({ body }) => JSON.parse(body).data.distinct_id),
    )
  expect(users('one')).toEqual(users('two'))
})

test('Postgres dies while answers are on their way: they are stored when it is back, and nothing is sent again', async () => {
  const mortal = await startTestPostgres()
  const other = await DeliverBench.open(mortal)
  let again: Awaited<ReturnType<typeof startEmbeddedPostgres>> | undefined
  try {
    const { id } = await other.destination('patient', receiver.url)
    await other.deliver()
    await other.events(5)
    await other.waitForSums('the first', id, ({ delivered }) => delivered === 5)
    receiver.answer = async () => {
      if (!again) {
        receiver.answer = () => new Response('{}')
        await mortal.kill()
        again = await startEmbeddedPostgres({ dataDir: mortal.dataDir })
      }
      return new Response('{}')
    }
    await other.events(30)
    await other.waitForSums('all', id, ({ delivered }) => delivered === 35)
    expect(receiver.got).toHaveLength(35)
  } finally {
    await other.close()
    await again?.stop()
    await mortal.stop()
  }
})
