/**
 * `headrace warehouse`: the embedded ClickHouse engine in a process of its own, behind ClickHouse's HTTP interface.
 * `headrace warehouse kafka-engine`: SQL with which an outside ClickHouse reads the row topics itself.
 */
import { type Command, InvalidArgumentError } from 'commander'
import { parseAddress, type Settings } from '../catalog/index.ts'
import { warehouseDir } from './context.ts'
import { cliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, parseCount, settingsOf, withDeployment } from './options.ts'
import { addRole, type RoleStart } from './role.ts'

type EngineFlags = DeploymentFlags & { group: string; consumers: number; collection?: string }

const KAFKA = 'kafka://'
const EXAMPLE = `
Example:
  headrace warehouse kafka-engine --log kafka://k1:9092,k2:9092 > kafka-engine.sql
  clickhouse-client --multiquery < kafka-engine.sql

Instead of the role load, never beside it. It promises less: see docs/guides/loading.md.`

export function addWarehouse(program: Command, done: (code: ExitCode) => void): void {
  const warehouse = addRole(program, {
    role: 'warehouse',
    description: 'role: the embedded ClickHouse engine behind its HTTP interface',
    connectionsMax: 1,
    start,
  })
  withDeployment(warehouse.command('kafka-engine'))
    .description("print SQL with which ClickHouse's own Kafka engine loads the row topics")
    .option('--group <name>', 'consumer group of ClickHouse', 'headrace_kafka_engine')
    .option('--consumers <n>', 'consumers of events on each node', parseCount, 1)
    .option(
      '--collection <name>',
      'named collection of ClickHouse that says how to reach the brokers',
      parseName,
    )
    .addHelpText('after', EXAMPLE)
    // The role above takes the flags of the deployment first.
    .action(async (_: unknown, command: Command) => done(await printKafkaEngine(command.optsWithGlobals())))
}

const start: RoleStart = async ({ settings }) => {
  const { startEmbeddedWarehouse } = await import('../warehouse/index.ts')
  return startEmbeddedWarehouse({
    dir: warehouseDir(settings),
    listen: parseAddress(settings.warehouseAddress),
  })
}

async function printKafkaEngine(flags: EngineFlags): Promise<ExitCode> {
  const settings = settingsOf(flags)
  const { kafkaEngineDdl } = await import('../warehouse/index.ts')
  const statements = kafkaEngineDdl({
    from:
      flags.collection === undefined ? { brokers: brokersOf(settings) } : { collection: flags.collection },
    group: flags.group,
    consumers: flags.consumers,
    variant: settings.clickhouseCluster === '' ? 'single' : 'sharded',
  })
  process.stdout.write(statements.map((statement) => `${statement};\n`).join('\n'))
  return EXIT.done
}

/** Secrets have no place in a printed statement, nor in the table that it makes. */
function brokersOf({ log, kafkaTls, kafkaSaslMechanism }: Settings): string {
  if (!log.startsWith(KAFKA))
    throw cliError(
      'HR_CLI_ARGUMENT',
      'the log is embedded, and ClickHouse can read a Kafka only; give --log kafka://… or --collection',
    )
  if (kafkaTls === 'on' || kafkaSaslMechanism !== 'none')
    throw cliError(
      'HR_CLI_ARGUMENT',
      'these brokers want TLS or a password: put them into a named collection of ClickHouse and give its name with --collection',
    )
  return log.slice(KAFKA.length)
}

function parseName(text: string): string {
  if (!/^[A-Za-z_]\w*$/.test(text))
    throw new InvalidArgumentError('a name of letters, digits and _ is needed')
  return text
}
