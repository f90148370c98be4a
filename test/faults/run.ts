/**
 * The long form of the crash test: `npm run faults -- --runs 200 [--kafka] [--seed N] [--no-pauses]`. Prints the
 * report as one line of JSON; exit code 1 when an invariant does not hold. Stops by itself.
 */
import { parseArgs } from 'node:util'
import { startCluster } from '../support/cluster.ts'
import { startProduct } from '../support/product.ts'
import { crash, seeded, type Victim } from './crash.ts'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    kafka: { type: 'boolean', default: false },
    'no-pauses': { type: 'boolean', default: false },
  },
})

const LOAD = { senders: 4, batchEvents: 20, batchesPerSecond: 5 }
const PAUSE_EVERY = 20
const PAUSE_MS = 30_000

const victim: Victim & { output: string[]; stop(): Promise<unknown> } = values.kafka
  ? await startCluster({ brokers: 3, partitions: 8, ingest: 2, load: 2 })
  : await startProduct()
const roles = values.kafka
  ? ['capture', 'ingest-1', 'ingest-2', 'load-1', 'load-2', 'warehouse']
  : ['capture', 'ingest', 'load', 'warehouse', 'postgres']
try {
  console.log(
    `${values.runs} hits on ${values.kafka ? 'Kafka, every role a process' : 'one machine'}, seed ${values.seed}`,
  )
  const report = await crash(victim, {
    runs: Number(values.runs),
    roles,
    pauseEvery: values['no-pauses'] ? 0 : PAUSE_EVERY,
    pauseMs: PAUSE_MS,
    load: LOAD,
    random: seeded(Number(values.seed)),
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
