/** What verbs that change stored rows have in common: deletions and squash. */
import type { SettleDeps } from '../repair/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { Context } from './context.ts'
import { type DeploymentFlags, settingsOf } from './options.ts'

/** A question walks through a whole month of events at most. */
const QUERY_TIMEOUT_MS = 1_800_000

/** Runs `work` on all of a deployment; each new sentence of it goes to standard error. */
export async function withRows<T>(
  flags: DeploymentFlags,
  name: string,
  work: (deps: SettleDeps & { warehouse: Warehouse }) => Promise<T>,
): Promise<T> {
  // The lock of the work holds one connection.
  const context = new Context(settingsOf(flags), name, 4, QUERY_TIMEOUT_MS)
  try {
    context.requireRunning()
    const { deployment } = await context.prepareState()
    let said = ''
    return await work({
      sql: context.sql,
      log: await context.log(),
      warehouse: await context.migratedWarehouse(),
      partitions: deployment.partitions,
      says: (sentence) => {
        if (sentence !== said) process.stderr.write(`${sentence}\n`)
        said = sentence
      },
    })
  } finally {
    await context.close()
  }
}
