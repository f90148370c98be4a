/**
 * The long forms of the fault tests; each prints its reports as lines of JSON, ends with exit code 1 when an invariant
 * does not hold, and stops by itself.
 * `--help` tells what there is.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { startCluster } from '../support/cluster.ts'
import { startProduct } from '../support/product.ts'
import { crash, seeded, type Victim } from './crash.ts'
import { INGEST_FAULT_NAMES, runIngestFaults } from './ingest/index.ts'
import { KAFKA_DOWN_NAMES, runKafkaDown } from './kafka-down/index.ts'
import { runLoadFaults } from './load/index.ts'
import { runRowsFaults } from './rows/index.ts'

const USAGE = `npm run faults -- [--runs 200] [--kafka] [--seed N] [--no-pauses]
  roles of the product killed and paused at random, under load
npm run faults -- kafka-down [--runs 1000] [--only name,…] [--captures 4] [--seed N]
  ${KAFKA_DOWN_NAMES.join(', ')}
npm run faults -- ingest [--runs 2000] [--kafka] [--only name,…] [--seed N] [--transform]
  ${INGEST_FAULT_NAMES.join(', ')}
npm run faults -- load [--runs 1000] [--kafka] [--seed N]
  loaders and ClickHouse killed and paused at their places
npm run faults -- rows [--runs 20]
  squash and deletions killed at each of their steps`

const { values, positionals } = parsed({
  allowPositionals: true,
  options: {
    help: { type: 'boolean', default: false },
    runs: { type: 'string' },
    seed: { type: 'string', default: process.env.HEADRACE_TEST_SEED ?? String(Date.now() % 1_000_000) },
    kafka: { type: 'boolean', default: false },
    transform: { type: 'boolean', default: false },
    'no-pauses': { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    captures: { type: 'string', default: '4' },
  },
})
if (values.help) {
  console.log(USAGE)
  process.exit(0)
}

const LOAD = { senders: 4, batchEvents: 20, batchesPerSecond: 5 }
const PAUSE_EVERY = 20
const PAUSE_MS = 30_000
const CRASH_RUNS = 200
const CAPTURE_KILL_RUNS = 1_000
const INGEST_KILL_RUNS = 2_000
const LOAD_KILL_RUNS = 1_000
const ROWS_RUNS = 20

// Children are ended by what `exit` tells; a signal alone tells nobody.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const seed = Number(values.seed)
const { kafka } = values
switch (positionals.join()) {
  case '':
    await runCrash()
    break
  case 'kafka-down': {
    const [runs, only] = [runsOr(CAPTURE_KILL_RUNS), onlyOf(KAFKA_DOWN_NAMES)]
    exit(await runKafkaDown({ runs, only, captures: Number(values.captures), seed }))
    break
  }
  case 'ingest': {
    const [runs, only] = [runsOr(INGEST_KILL_RUNS), onlyOf(INGEST_FAULT_NAMES)]
    exit(await runIngestFaults({ runs, only, kafka, seed, transform: values.transform }))
    break
  }
  case 'load':
    exit(await runLoadFaults({ runs: runsOr(LOAD_KILL_RUNS), kafka, seed }))
    break
  case 'rows':
    exit(await runRowsFaults({ runs: runsOr(ROWS_RUNS) }))
    break
  default:
    wrong(`there is no fault test ${positionals.join(' ')}; there are:\n${USAGE}`)
}

function parsed<const T extends ParseArgsConfig>(config: T) {
  try {
    return parseArgs(config)
  } catch (error) {
    return wrong(`${(error as Error).message}\n${USAGE}`)
  }
}

function runsOr(usual: number): number {
  return Number(values.runs ?? usual)
}

function onlyOf(names: readonly string[]): string[] {
  const only = values.only.split(',').filter((name) => name !== '')
  const unknown = only.find((name) => !names.includes(name))
  if (unknown !== undefined) wrong(`--only has ${unknown}; allowed is ${names.join(', ')}`)
  return only
}

/** What a broken network left open must not keep us. */
function exit(held: boolean): void {
  process.exit(held ? 0 : 1)
}

function wrong(sentence: string): never {
  console.error(sentence)
  process.exit(2)
}

async function runCrash(): Promise<void> {
  const runs = runsOr(CRASH_RUNS)
  const victim: Victim & { output: string[]; stop(): Promise<unknown> } = kafka
    ? await startCluster({ brokers: 3, partitions: 8, ingest: 2, load: 2 })
    : await startProduct()
  const roles = kafka
    ? ['capture', 'ingest-1', 'ingest-2', 'load-1', 'load-2', 'warehouse']
    : ['capture', 'ingest', 'load', 'warehouse', 'postgres']
  try {
    console.log(
      `${runs} hits on ${kafka ? 'Kafka, every role a process' : 'one machine'}, seed ${values.seed}`,
    )
    const report = await crash(victim, {
      runs,
      roles,
      pauseEvery: values['no-pauses'] ? 0 : PAUSE_EVERY,
      pauseMs: PAUSE_MS,
      load: LOAD,
      random: seeded(seed),
      say: console.log,
    })
    console.log(JSON.stringify(report))
  } catch (error) {
    console.error(victim.output.slice(-100).join('\n'))
    console.error((error as Error).message)
    process.exitCode = 1
  } finally {
    await victim.stop()
  }
}
