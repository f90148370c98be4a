/**
 * What a deployment is born with and can never change: its id, the kind of its log, its number of partitions.
 * Positions of one kind of log mean nothing on another, and another number of partitions would send a person's
 * events to two places.
 */
import { errorTable } from '../event/index.ts'
import { guardState, type Sql } from './postgres.ts'

export const DEPLOYMENT_ERRORS = {
  HR_DEPLOYMENT_MISMATCH: {
    class: 'fatal',
    meaning: 'The state belongs to a deployment with another log or another number of partitions.',
  },
} as const
const deploymentError = errorTable(DEPLOYMENT_ERRORS)

export type LogKind = 'embedded' | 'kafka'

export type Deployment = { id: string; partitions: number }

const PARTITIONS_AT_BIRTH: Record<LogKind, number> = { embedded: 8, kafka: 64 }

/**
 * The deployment of this state, born at the first call. `partitions` 0 = whatever it has, or the default at birth.
 * Throws HR_DEPLOYMENT_MISMATCH when the start asks for something else than it was born with.
 */
export async function bindDeployment(
  sql: Sql,
  wanted: { logKind: LogKind; partitions: number },
): Promise<Deployment> {
  const atBirth = wanted.partitions || PARTITIONS_AT_BIRTH[wanted.logKind]
  const [row] = await guardState('binding the deployment', async () => {
    await sql`
      INSERT INTO deployment (partitions, log_kind) VALUES (${atBirth}, ${wanted.logKind})
      ON CONFLICT (only_one) DO NOTHING`
    return sql<{ id: string; partitions: number; log_kind: string }[]>`
      SELECT id, partitions, log_kind FROM deployment`
  })
  const born = row!
  if (born.log_kind !== wanted.logKind) {
    throw deploymentError(
      'HR_DEPLOYMENT_MISMATCH',
      `this state was born with the ${born.log_kind} log and HEADRACE_LOG asks for ${wanted.logKind}; positions do not carry over, so start with the old log or with a new state`,
    )
  }
  if (wanted.partitions !== 0 && wanted.partitions !== born.partitions) {
    throw deploymentError(
      'HR_DEPLOYMENT_MISMATCH',
      `this state was born with ${born.partitions} partitions and HEADRACE_PARTITIONS is ${wanted.partitions}; the number is fixed for ever, so set ${born.partitions} or 0`,
    )
  }
  return { id: born.id, partitions: born.partitions }
}
