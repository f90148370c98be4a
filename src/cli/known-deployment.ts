/**
 * The deployment as a data folder remembers it, so that capture can start while Postgres is away: what it was born
 * with never changes, so a memory of it cannot be old, only of another deployment. Verified as soon as Postgres
 * answers. Written once, after Postgres said it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DEPLOYMENT_ERRORS, type Deployment, type LogKind } from '../catalog/index.ts'
import { errorTable, isRetriable } from '../event/index.ts'
import type { Logger } from '../observe/index.ts'
import { type Backoff, backoffMs, makeDir, pause, writeDurably } from '../platform/index.ts'

export type KnownDeployment = Deployment & { logKind: LogKind }

const FILE = 'capture.json'
/** A Postgres that is there answers well within this; one that hangs must not keep events out. */
const ASK_MS_MAX = 2_000
const BACKOFF: Backoff = { firstMs: 200, maxMs: 5_000 }
const deploymentError = errorTable(DEPLOYMENT_ERRORS)

/** What the folder remembers; undefined when nothing that can be read. */
export function recallDeployment(dataDir: string): KnownDeployment | undefined {
  try {
    const { id, partitions, logKind } = JSON.parse(
      readFileSync(join(dataDir, FILE), 'utf8'),
    ) as KnownDeployment
    const whole = typeof id === 'string' && Number.isInteger(partitions) && typeof logKind === 'string'
    return whole ? { id, partitions, logKind } : undefined
  } catch {
    return undefined
  }
}

function rememberDeployment(dataDir: string, known: KnownDeployment): void {
  makeDir(dataDir)
  writeDurably(join(dataDir, FILE), Buffer.from(`${JSON.stringify(known)}\n`))
}

export type DeploymentQuestion = {
  dataDir: string
  /** What the settings ask for; `partitions` 0 = whatever it has. */
  logKind: LogKind
  partitions: number
  /** Asks Postgres. */
  ask(): Promise<Deployment>
  logger: Logger
  fatal(error: unknown): void
  signal: AbortSignal
}

/**
 * The deployment by Postgres, or, while that does not answer, by memory; then Postgres is asked on until it answers,
 * and another deployment is fatal. Throws what `ask` throws when nothing is remembered, or what waiting cannot mend.
 */
export async function learnDeployment(question: DeploymentQuestion): Promise<Deployment> {
  const { dataDir, logKind, partitions, ask, logger } = question
  const known = recallDeployment(dataDir)
  if (!known) return remembered(question, await ask())
  const asked = ask()
  // It may end when nobody waits for it any more.
  asked.catch(() => {})
  try {
    const answer = await Promise.race([asked, pause(ASK_MS_MAX)])
    if (answer) return remembered(question, answer)
  } catch (error) {
    if (!isRetriable(error)) throw error
  }
  requireSame(known, { ...known, logKind, partitions: partitions || known.partitions }, dataDir)
  logger.warn(
    { docs: 'docs/runbooks/spool.md#postgres' },
    'Postgres does not answer; starts as it was last time',
  )
  void verify(question, known, asked)
  return known
}

async function verify(
  question: DeploymentQuestion,
  known: KnownDeployment,
  first: Promise<Deployment>,
): Promise<void> {
  const { ask, fatal, logger, signal, logKind, dataDir } = question
  let asked = first
  for (let failures = 1; !signal.aborted; failures++) {
    try {
      const found = await asked
      requireSame(known, { ...found, logKind }, dataDir)
      logger.info('Postgres answers; the deployment is the one that was remembered')
      return
    } catch (error) {
      if (signal.aborted) return
      if (!isRetriable(error)) return fatal(error)
    }
    await pause(backoffMs(failures, BACKOFF), signal)
    asked = ask()
  }
}

/** Events of the remembered deployment may lie in a spool of this folder, so another one is refused, not remembered. */
function remembered({ dataDir, logKind }: DeploymentQuestion, deployment: Deployment): Deployment {
  const found = { ...deployment, logKind }
  const known = recallDeployment(dataDir)
  if (known) requireSame(known, found, dataDir)
  else rememberDeployment(dataDir, found)
  return deployment
}

function requireSame(known: KnownDeployment, found: KnownDeployment, dataDir: string): void {
  if (known.id === found.id && known.partitions === found.partitions && known.logKind === found.logKind)
    return
  throw deploymentError(
    'HR_DEPLOYMENT_MISMATCH',
    `${join(dataDir, FILE)} is of deployment ${known.id} (${known.logKind}, ${known.partitions} partitions) and this start is for ${found.id} (${found.logKind}, ${found.partitions}); use the folder with the state that it belongs to, or, when its spools are empty, remove the file`,
  )
}
