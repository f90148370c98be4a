/**
 * The durable writer as a capture process has it: the writer, and with Kafka the detour over a spool, opened from the
 * settings and closed together.
 */
import { join } from 'node:path'
import type { Settings, Sql } from '../catalog/index.ts'
import { HeadraceError, RAW_TOPICS } from '../event/index.ts'
import { deploymentTopics, type EmbeddedLogOptions, type Log } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { captureError } from './errors.ts'
import { RawWriter } from './produce.ts'
import { Detour } from './spool/index.ts'

export type SpoolDeps = {
  /** Makes sure that the log's topics are right, before anything is sent there; retriable while it is out of reach. */
  checkLog(): Promise<void>
  /** Where spools are registered; without it nobody is told. */
  sql?: Sql
  /** How often spools that nobody holds are looked for. */
  adoptEveryMs?: number
  /** For fault tests. */
  log?: Partial<EmbeddedLogOptions>
}

export type WriterDeps = {
  settings: Settings
  log: Log
  partitions: number
  logger: Logger
  onFatal(error: unknown): void
  /** With it, what the log does not take goes to a spool; an embedded log needs none. */
  spool?: SpoolDeps
}

/** What a stop had to leave. */
export type Leftovers = {
  /** Requests that got no answer. */
  unanswered: number
  /** Events that are durable in the spool and not in the log yet. */
  spooled: number
}

export type DurableWriter = {
  writer: RawWriter
  notReady(): Promise<string | undefined>
  /** Finishes what is in flight, and drains the spool, until `untilMs` (performance.now). */
  close(untilMs: number): Promise<Leftovers>
}

/** An answer of the log within this part of its budget is a quick one. */
const QUICK_PART = 1 / 3
const FULL = ['ENOSPC', 'EDQUOT', 'HR_LOG_DISK_FULL']

/** Throws HR_CAPTURE_SPOOL_SETTING, or HR_CAPTURE_SPOOL_FULL while there is no room for a spool. */
export async function openWriter(deps: WriterDeps): Promise<DurableWriter> {
  const { settings, log, logger, onFatal } = deps
  const detour = deps.spool && (await openDetour(deps, deps.spool))
  const writer = new RawWriter({
    log,
    detour,
    answerMs: settings.captureAnswerMs,
    logMs: settings.captureLogMs,
    recordBytesMax: rawRecordBytesMax(deps.partitions),
    queueBytesMax: settings.captureInFlightBytesMax,
    logger,
    onFatal,
  })
  return {
    writer,
    notReady: () => writer.notReady(),
    async close(untilMs) {
      const unanswered = await writer.close(untilMs)
      return { unanswered, spooled: (await detour?.close(untilMs)) ?? 0 }
    },
  }
}

async function openDetour(deps: WriterDeps, spool: SpoolDeps): Promise<Detour> {
  const { settings, log, logger, onFatal } = deps
  const { captureLogMs, captureAnswerMs } = settings
  if (captureLogMs * 2 > captureAnswerMs) {
    throw captureError(
      'HR_CAPTURE_SPOOL_SETTING',
      `HEADRACE_CAPTURE_LOG_MS is ${captureLogMs}; allowed is at most half of HEADRACE_CAPTURE_ANSWER_MS (${captureAnswerMs}), so that time is left for the spool`,
    )
  }
  const dir = settings.spoolDir || join(settings.dataDir, 'spool')
  try {
    return await Detour.open({
      dir,
      spool: {
        bytesMax: settings.spoolBytesMax,
        diskUsedRatioMax: settings.logDiskFullPercent / 100,
        warn: (sentence) => logger.warn({ docs: 'docs/runbooks/spool.md' }, sentence),
        ...(spool.log ? { log: spool.log } : {}),
      },
      log,
      checkLog: () => spool.checkLog(),
      quickMs: captureLogMs * QUICK_PART,
      sql: spool.sql,
      logger,
      onFatal,
      ...(spool.adoptEveryMs === undefined ? {} : { adoptEveryMs: spool.adoptEveryMs }),
    })
  } catch (error) {
    throw openFailure(dir, error)
  }
}

function openFailure(dir: string, error: unknown): unknown {
  const code = String((error as { code?: unknown }).code ?? '')
  if (FULL.includes(code))
    return captureError('HR_CAPTURE_SPOOL_FULL', `there is no room for a spool in ${dir}`, error)
  if (error instanceof HeadraceError || code === '') return error
  return captureError(
    'HR_CAPTURE_SPOOL_SETTING',
    `HEADRACE_SPOOL_DIR is ${dir}, which cannot be used (${code}); allowed is a folder on a local disk that capture may write`,
    error,
  )
}

/** What the topics of a deployment take at least; the check of the topics makes sure of it. */
function rawRecordBytesMax(partitions: number): number {
  const raw = deploymentTopics({ partitions }).filter(({ name }) =>
    (RAW_TOPICS as readonly string[]).includes(name),
  )
  return Math.min(...raw.map(({ recordBytesMax }) => recordBytesMax))
}
