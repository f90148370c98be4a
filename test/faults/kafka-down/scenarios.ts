/**
 * Kafka away, slow, cut, partly gone, and no room in the spool: each under load from start to end, each ended by the
 * proof. As long as the spool has room no request is refused, whatever Kafka does.
 */
import { mkdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { mountSmallDisk, smallDiskMissing, unmountSmallDisk } from '../../support/small-disk.ts'
import { waitFor } from '../../support/wait-for.ts'
import type { CaptureProcess } from './capture-process.ts'
import type { Observed } from './ledger.ts'
import type { Rig } from './rig.ts'
import { SENDER_KINDS, type SenderKind } from './sender.ts'

export type Scenario = {
  name: string
  about: string
  /** Minutes, not seconds: only when it is asked for by name. */
  long?: boolean
  /** Undefined, or one sentence why it cannot be run here. */
  missing?: () => string | undefined
  run(rig: Rig): Promise<Report>
}

export type Report = Observed & { events: number; copies: number }

const SOME = 300
const SLOW_MS = 5_000
const CUT_CHANCE = 0.05
const CUT_MS = 15_000
/** What a spool of the smallest size and a small disk take within seconds. */
const SMALL_SPOOL_BYTES = 1_048_576
const SMALL_DISK = '3m'
const DISK_FULL_PERCENT = 99
/** More in one append than what the percentage leaves of the disk, so that the disk says it before the setting does. */
const LARGE: SenderKind = { events: 200, gzip: false, historical: false }
const FULL_MS = 3_000
const FULL_MS_MAX = 120_000

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'down-1s',
    about: 'no broker can be reached for 1 s',
    run: (rig) => away(rig, () => rig.network.cutOff(), rig.network.heal, 1_000),
  },
  {
    name: 'down-60s',
    about: 'all brokers are dead for 60 s',
    run: (rig) => away(rig, () => killBrokers(rig, 3), startBrokers(rig), 60_000),
  },
  {
    name: 'down-600s',
    about: 'no broker can be reached for 10 minutes',
    long: true,
    run: (rig) => away(rig, () => rig.network.cutOff(), rig.network.heal, 600_000),
  },
  {
    name: 'cut',
    about: 'connections are cut in the middle of requests and before answers',
    run: (rig) =>
      away(rig, () => rig.network.cutMidway(CUT_CHANCE, rig.random), rig.network.heal, CUT_MS, false),
  },
  {
    name: 'slow',
    about: 'all that is sent to Kafka arrives 5 s late',
    run: (rig) => away(rig, () => rig.network.slowBy(SLOW_MS), rig.network.heal, 4 * SLOW_MS),
  },
  { name: 'one-broker-gone', about: 'one of three brokers is dead: events go on to Kafka', run: oneGone },
  {
    name: 'two-brokers-gone',
    about: 'two of three brokers are dead: fewer than min.insync.replicas',
    run: (rig) => away(rig, () => killBrokers(rig, 2), startBrokers(rig), 10_000),
  },
  { name: 'spool-full', about: 'the spool reaches HEADRACE_SPOOL_BYTES_MAX', run: spoolFull },
  {
    name: 'disk-full',
    about: 'the disk of the spool has no byte left',
    missing: smallDiskMissing,
    run: diskFull,
  },
]

/** Kafka is away for `ms`, under load; nobody is refused. `spools`: long or bad enough for every process to notice. */
async function away(
  rig: Rig,
  fall: () => unknown,
  rise: () => unknown,
  ms: number,
  spools = ms >= 10_000,
): Promise<Report> {
  rig.load()
  await rig.more(SOME)
  rig.ledger.take()
  const from = performance.now()
  await fall()
  if (spools) {
    await rig.spooling()
    await rig.more(SOME)
  }
  await delay(Math.max(0, from + ms - performance.now()))
  await rise()
  // The way back must end while events come in.
  await rig.direct()
  await rig.more(SOME)
  return proved(rig, nobodyRefused)
}

async function oneGone(rig: Rig): Promise<Report> {
  rig.load()
  await rig.more(SOME)
  rig.ledger.take()
  await rig.kafka.kill(0, 'SIGKILL')
  await rig.more(SOME)
  await rig.direct()
  await rig.more(SOME)
  if (rig.kafka.running(0)) throw new Error('the broker was to be gone all the time')
  await rig.kafka.start(0)
  await rig.more(SOME)
  return proved(rig, nobodyRefused)
}

async function spoolFull(rig: Rig): Promise<Report> {
  await rig.reconfigure(() => ({ HEADRACE_SPOOL_BYTES_MAX: String(SMALL_SPOOL_BYTES) }))
  const report = await fillUp(rig)
  await rig.reconfigure(() => ({}))
  return report
}

/** A disk of its own for each spool, so small that the spool takes its last byte; and it is used until then. */
async function diskFull(rig: Rig): Promise<Report> {
  const disks = new Map(rig.captures.map((capture) => [capture, join(rig.folder, `${capture.name}-disk`)]))
  const dirOf = (capture: CaptureProcess) => disks.get(capture)!
  try {
    for (const disk of disks.values()) {
      mkdirSync(disk)
      mountSmallDisk(disk, SMALL_DISK)
    }
    await rig.reconfigure((capture) => ({
      HEADRACE_SPOOL_DIR: dirOf(capture),
      HEADRACE_LOG_DISK_FULL_PERCENT: String(DISK_FULL_PERCENT),
    }))
    let saidByDisk = 0
    const report = await fillUp(rig, (capture) => {
      if (usedPercent(dirOf(capture)) < DISK_FULL_PERCENT) saidByDisk++
    })
    if (saidByDisk === 0) throw new Error('no spool met the end of its disk before the setting stopped it')
    await rig.reconfigure(() => ({}))
    return report
  } finally {
    await rig.release()
    for (const disk of disks.values()) unmountSmallDisk(disk)
  }
}

/** Kafka is away until every process has refused something, which is told once of each, and a while longer. */
async function fillUp(rig: Rig, refused: (capture: CaptureProcess) => void = () => {}): Promise<Report> {
  rig.load([...SENDER_KINDS, LARGE])
  await rig.more(SOME)
  rig.ledger.take()
  rig.network.cutOff()
  try {
    await rig.spooling()
    const isFull = async (capture: CaptureProcess) =>
      ((await capture.metrics())?.['headrace_capture_requests_total{path="/batch",status="503"}'] ?? 0) > 0
    const fill = async (capture: CaptureProcess) => {
      const told = () => rig.told()
      await waitFor(`full spool of ${capture.name}`, () => isFull(capture), FULL_MS_MAX, told)
      refused(capture)
    }
    await Promise.all(rig.captures.map(fill))
    await delay(FULL_MS)
  } finally {
    rig.network.heal()
  }
  await rig.direct()
  await rig.more(SOME)
  return proved(rig, ({ refused }) => (refused === 0 ? 'nobody was refused by a full spool' : undefined))
}

function nobodyRefused({ refused }: Observed): string | undefined {
  return refused === 0 ? undefined : `${refused} requests were refused though the spool had room`
}

async function proved(rig: Rig, wrong: (observed: Observed) => string | undefined): Promise<Report> {
  const { events, copies } = await rig.prove()
  const observed = rig.ledger.take()
  const sentence = wrong(observed) ?? (observed.unconnected > 0 ? 'connections ended' : undefined)
  if (sentence) throw new Error(`${sentence}: ${JSON.stringify(observed)}`)
  return { ...observed, events, copies }
}

async function killBrokers(rig: Rig, count: number): Promise<void> {
  for (let broker = 0; broker < count; broker++) await rig.kafka.kill(broker, 'SIGKILL')
}

const startBrokers = (rig: Rig) => async () => {
  const gone = [0, 1, 2].filter((broker) => !rig.kafka.running(broker))
  for (const broker of gone) await rig.kafka.start(broker, { wait: false })
  for (const broker of gone) await rig.kafka.start(broker)
}

/** As the spool counts it. */
function usedPercent(path: string): number {
  const { blocks, bavail } = statfsSync(path)
  return 100 * (1 - bavail / blocks)
}
