/**
 * Delivery under faults: two deliver processes that die at the failpoints of deliver, and a receiver that misbehaves. At
 * the end it behaves, and then must hold: every event is accounted for at every destination, once; what is called delivered
 * was told to be taken; nothing that was told to be taken is called otherwise; the order of a distinct_id is kept where it
 * was asked for; no redirect was followed. Without a death, nothing was told to be taken twice.
 * The long form: `npm run faults -- deliver [--runs 200] [--seed N]`.
 */
import { DeliverBench, PARTITIONS } from '../../../src/deliver/deliver.fixture.ts'
import { FAILPOINTS } from '../../../src/platform/index.ts'
import { startTestPostgres } from '../../support/postgres.ts'
import { seeded } from '../crash.ts'
import { MoodyReceiver, type Taken } from './receiver.ts'

const NAMES = Object.keys(FAILPOINTS.deliver)
const EVENTS_PER_BURST = 5
const BURST_EVERY_MS = 100
const MOODY_SHARE = 0.1
const CALM_MS_MAX = 120_000

const DESTINATIONS: Record<string, Record<string, unknown>> = {
  single: {},
  batched: { options: { batch: 10 } },
  ordered: { ordered: true, concurrency: 8 },
  some: { filter: { where: [{ key: 'n', is: 'lt', value: 200 }] } },
}

export type DeliverReport = { kills: number; events: number; twice: number; moods: Record<string, number> }

/** Throws one sentence when something does not hold. */
export async function runDeliver(options: {
  kills: number
  seed: number
  /** How long events come in at least. */
  leastMs: number
}): Promise<DeliverReport> {
  const { kills: wantedKills, seed, leastMs } = options
  const random = seeded(seed)
  const postgres = await startTestPostgres()
  const receiver = await MoodyReceiver.start()
  const bench = await DeliverBench.open(postgres)
  try {
    const ids = new Map<string, string>()
    for (const [name, more] of Object.entries(DESTINATIONS)) {
      const { id } = await bench.destination(name, receiver.url(name), { timeout_ms: 500, ...more })
      ids.set(name, id)
    }
    receiver.moody(MOODY_SHARE, random)
    let kills = 0
    let calm = false
    const keep = async (): Promise<void> => {
      while (!calm) {
        const place = NAMES[Math.floor(random() * NAMES.length)]!
        const plan = kills < wantedKills ? `${place}:0.2` : ''
        const child = bench.spawn(plan, Math.floor(random() * 1e9))
        // A life that meets no death of its own ends by a plain kill, so that places that are rare do not hold it up.
        const timer = plan === '' ? undefined : setTimeout(() => child.kill('SIGKILL'), 4_000)
        await child.exited
        clearTimeout(timer)
        kills++
      }
    }
    const keepers = [keep(), keep()]
    const began = performance.now()
    let events = 0
    while (kills < wantedKills || performance.now() - began < leastMs) {
      for (let partition = 0; partition < PARTITIONS; partition++) {
        await bench.events(EVENTS_PER_BURST, undefined, partition)
        events += EVENTS_PER_BURST
      }
      await Bun.sleep(BURST_EVERY_MS)
    }
    const died = kills
    receiver.moody(0, random)
    await bench.waitUntilSettled([...ids.values()], events, CALM_MS_MAX)
    calm = true
    await bench.killChildren()
    await Promise.all(keepers)
    const twice = await check(bench, receiver, ids, events)
    if (wantedKills === 0 && twice > 0)
      throw new Error(`${twice} events were taken twice, though nobody died`)
    if (receiver.followed > 0) throw new Error(`${receiver.followed} redirects were followed`)
    return { kills: died, events, twice, moods: receiver.met }
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
  } finally {
    await bench.close()
    await receiver.stop()
    await postgres.stop()
  }
}

/** How many were told to be taken more than once. */
async function check(
  bench: DeliverBench,
  receiver: MoodyReceiver,
  ids: ReadonlyMap<string, string>,
  events: number,
): Promise<number> {
  const outcomes = await bench.outcomes()
  let twice = 0
  for (const [name, id] of ids) {
    const told = receiver.told.filter(({ destination }) => destination === name)
    const first = new Map<string, Taken>()
    for (const one of told) if (!first.has(one.id)) first.set(one.id, one)
    twice += told.length - first.size
    const sums = await bench.sums(id)
    const rows = [...outcomes.values()].filter(({ destination_id }) => destination_id === id)
    const wanted = events - sums.filtered
    const said = `${name}: ${JSON.stringify(sums)}, ${rows.length} rows, ${first.size} taken of ${events}`
    if (sums.seen !== events || sums.delivered !== wanted || sums.waiting !== 0)
      throw new Error(`sums: ${said}`)
    if (name !== 'some' && sums.filtered !== 0) throw new Error(`filtered: ${said}`)
    if (first.size !== wanted) throw new Error(`taken: ${said}`)
    if (rows.length !== wanted || rows.some(({ state }) => state !== 'delivered'))
      throw new Error(`rows: ${said}`)
    if (name === 'ordered') checkOrder([...first.values()])
  }
  return twice
}

/** Events of one distinct_id were first taken in their order; each partition numbers its own. */
function checkOrder(taken: readonly Taken[]): void {
  const last = new Map<string, number>()
  for (const { distinctId, n } of taken) {
    const before = last.get(distinctId) ?? -1
    if (n < before) throw new Error(`order: event ${n} of ${distinctId} was taken after event ${before}`)
    last.set(distinctId, n)
  }
}
