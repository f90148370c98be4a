/**
 * `headrace property list|promote`: properties of events that have a column of their own. The work is in
 * `src/warehouse/promote.ts`; here are the flags, and progress on standard error.
 */
import { type Command, Option } from 'commander'
import { PROPERTY_TYPES, type PropertyColumn, type PropertyType, type Warehouse } from '../warehouse/index.ts'
import { Context } from './context.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'
import { formatTable } from './table.ts'

type ListFlags = DeploymentFlags & { json?: boolean }
type PromoteFlags = ListFlags & { type: PropertyType }

export function addProperty(program: Command, done: (code: ExitCode) => void): void {
  const property = program.command('property').description('properties of events that have a column')
  withDeployment(property.command('list'))
    .description('which there are, and how much of the stored events has them')
    .option('--json', 'one JSON array')
    .action(async (flags: ListFlags) => {
      const { listProperties } = await import('../warehouse/index.ts')
      await withWarehouse(flags, async (warehouse) => print(await listProperties(warehouse), flags))
      done(EXIT.done)
    })
  withDeployment(property.command('promote'))
    .argument('<name>', 'as in the properties, such as plan or $referrer')
    .description(
      'give it a column, for all projects: at once for new events and in queries, then stored for old ones',
    )
    .addOption(
      new Option('--type <type>', 'what the column holds; other values are NULL')
        .choices(PROPERTY_TYPES)
        .default('string'),
    )
    .option('--json', 'one JSON array with the property')
    .addHelpText(
      'after',
      `
Examples:
  headrace property promote plan
  headrace property promote amount --type number
  headrace sql "SELECT p_plan, sum(p_amount) FROM events GROUP BY p_plan"

Months are stored one after the other, the newest first. Nothing breaks when this is stopped or killed: run it again
and it goes on where it was. docs/guides/querying.md#properties-as-columns says what it costs.`,
    )
    .action(async (name: string, flags: PromoteFlags) => {
      const warehouseModule = await import('../warehouse/index.ts')
      await withWarehouse(flags, async (warehouse) => {
        await warehouseModule.addProperty(warehouse, { name, type: flags.type })
        let said = ''
        await warehouseModule.fillProperty(warehouse, name, ({ month, rowsFilled, rows, failure }) => {
          const text = `${month}: ${rowsFilled} of ${rows} events${failure === '' ? '' : `; ClickHouse tries again after: ${failure}`}`
          if (text !== said) process.stderr.write(`${text}\n`)
          said = text
        })
        const all = await warehouseModule.listProperties(warehouse)
        print(
          all.filter((one) => one.name === name),
          flags,
        )
      })
      done(EXIT.done)
    })
}

async function withWarehouse(
  flags: DeploymentFlags,
  work: (warehouse: Warehouse) => Promise<void>,
): Promise<void> {
  const context = new Context(settingsOf(flags), 'property', 1)
  try {
    await work(await context.migratedWarehouse())
  } finally {
    await context.close()
  }
}

function print(columns: readonly PropertyColumn[], { json }: ListFlags): void {
  const text = json
    ? JSON.stringify(columns.map(({ rowsFilled, ...column }) => ({ ...column, rows_filled: rowsFilled })))
    : formatTable(
        ['PROPERTY', 'TYPE', 'COLUMN', 'STORED'],
        columns.map(({ name, type, column, rowsFilled, rows }) => [
          name,
          type,
          column,
          rows === 0 ? 'no events yet' : `${Math.floor((100 * rowsFilled) / rows)} %`,
        ]),
      )
  process.stdout.write(`${text}\n`)
}
