/**
 * Capture: HTTP requests of event SDKs come in, raw records go out to the log. An answer of success is a promise: the
 * events are durable (I1). Each body is looked at once; the log's record is a slice of it, byte for byte.
 *
 *   server.ts → protocols/ → decode/ → (protocol's scan) → validate.ts → produce.ts → log
 *
 * A protocol owns its paths, its body shapes and its answers; reading, judging single events, limits and producing
 * are shared by all.
 */
import { parseAddress, type Settings } from '../catalog/index.ts'
import { type Account, Door, ownAccount, type Projects, Reports } from './door/index.ts'
import { type Leftovers, openWriter, type WriterDeps } from './durable-writer.ts'
import { captureError } from './errors.ts'
import { Intake } from './intake.ts'
import { InFlightBudget } from './limits.ts'
import { captureRoutes, dynamicRoute } from './routes.ts'
import { CaptureServer, type ServerOptions } from './server.ts'

export type { Account, KnownProject, Projects } from './door/index.ts'
export type { Leftovers, SpoolDeps } from './durable-writer.ts'
export { CAPTURE_ERRORS, NOTE_REASONS, REJECT_REASONS } from './errors.ts'
export { captureOpenapi } from './openapi/index.ts'

/** `partitions` are those of the raw topics, `onFatal` is called with an error after which the process must stop. */
export type CaptureDeps = WriterDeps & {
  projects: Projects
  /** Without it, quotas count from the start of this process and by it alone, and no samples are kept. */
  account?: Account
  /** Epoch ms. */
  clock?: () => number
}

export type Capture = {
  /** `http://host:port`, with the port that was really taken. */
  readonly url: string
  /** Undefined when events can be stored now, else one sentence why not. */
  notReady(): Promise<string | undefined>
  /**
   * Not ready at once; after the grace for load balancers requests in flight are finished, all connections close, and
   * what is in the spool is drained as far as `withinMs` allows. Resolves with what is left.
   */
  stop(withinMs?: number): Promise<Leftovers>
}

/** Longer than any request in flight waits for the log. */
const DRAIN_SLACK_MS = 500
/** Of a stop, for what comes after the requests. */
const CLOSE_MS = 2_000

/** Serves on `captureAddress` until `stop`. Throws HR_CAPTURE_ADDRESS when that cannot be had. */
export async function startCapture(deps: CaptureDeps): Promise<Capture> {
  const { settings, logger } = deps
  let ended = false
  // What fails after the end, because its parts are closed, was told as left already.
  const onFatal = (error: unknown) => (ended ? undefined : deps.onFatal(error))
  const { writer, ...durable } = await openWriter({ ...deps, onFatal })
  let stopping: Promise<Leftovers> | undefined
  const notReady = async () => (stopping ? 'capture is stopping' : durable.notReady())
  const clock = deps.clock ?? Date.now
  const reports = new Reports({ writer, partitions: deps.partitions, clock })
  const door = new Door({ ...(deps.account ?? ownAccount()), projects: deps.projects, reports, logger })
  const protocolOptions = {
    intake: new Intake(door, writer, deps.partitions),
    clockTrustMs: settings.captureClockTrustMs,
    limits: {
      inflatedBytesMax: settings.captureInflatedBytesMax,
      ratioMax: settings.captureRatioMax,
      lz64BytesMax: settings.captureLz64BytesMax,
      batchEventsMax: settings.captureBatchEventsMax,
      batchValuesMax: settings.captureBatchValuesMax,
      eventBytesMax: settings.captureEventBytesMax,
      eventDepthMax: settings.captureEventDepthMax,
      eventKeysMax: settings.captureEventKeysMax,
    },
  }
  const undo = async () => {
    await reports.close()
    await durable.close(performance.now())
  }
  const server = await openServer(settings.captureAddress, undo, {
    routes: captureRoutes(protocolOptions),
    dynamicRoute,
    health: { notReady },
    budget: new InFlightBudget(settings.captureInFlightBytesMax),
    clock,
    logger,
    bodies: {
      bodyBytesMax: settings.captureBodyBytesMax,
      bodyMs: settings.captureBodyMs,
      bodyStallMs: settings.captureBodyStallMs,
    },
    idleSeconds: idleSecondsOf(settings),
    connectionsMax: settings.captureConnectionsMax,
    trustedProxies: settings.trustedProxies,
    refused: (request, status, error) => door.refused(request, status, error),
  })
  logger.info({ url: server.url }, 'capture takes events')
  const stop = async (withinMs: number) => {
    const untilMs = performance.now() + withinMs
    const drainMs = Math.min(settings.captureAnswerMs + DRAIN_SLACK_MS, withinMs - CLOSE_MS)
    // Not ready any more, and still serving: a load balancer needs a moment to see it.
    const graceMs = Math.min(settings.captureStopGraceMs, withinMs - drainMs - CLOSE_MS)
    if (graceMs > 0) await Bun.sleep(graceMs)
    const unanswered = await server.stop(drainMs)
    await reports.close()
    const left = await durable.close(untilMs)
    ended = true
    const leftovers = { ...left, unanswered: Math.max(left.unanswered, unanswered) }
    logger.info(leftovers, 'capture has stopped')
    return leftovers
  }
  return {
    url: server.url,
    notReady,
    stop(withinMs = settings.captureAnswerMs + DRAIN_SLACK_MS + CLOSE_MS) {
      stopping ??= stop(withinMs)
      return stopping
    },
  }
}

/** The server closes a connection on which nothing moves, also one whose request waits for the log. */
function idleSecondsOf(settings: Settings): number {
  const requestMs = settings.captureBodyMs + settings.captureAnswerMs + DRAIN_SLACK_MS
  return Math.max(settings.captureIdleSeconds, Math.ceil(requestMs / 1000))
}

async function openServer(
  address: string,
  undo: () => Promise<unknown>,
  options: Omit<ServerOptions, 'hostname' | 'port'>,
): Promise<CaptureServer> {
  try {
    return new CaptureServer({ ...parseAddress(address), ...options })
  } catch (error) {
    await undo()
    const why = `HEADRACE_CAPTURE_ADDRESS is ${address}, where capture cannot serve: ${(error as Error).message}`
    throw captureError('HR_CAPTURE_ADDRESS', why, error)
  }
}
