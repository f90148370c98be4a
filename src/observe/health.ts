/**
 * What every role answers to a supervisor or an orchestrator: `/_readiness` (it can do its work now), `/_liveness`
 * (its loop turns) and `/metrics`. On TCP or on a Unix socket.
 */
import { metricsText } from './metrics.ts'

export type Health = {
  /** Undefined when ready, else one sentence why not. */
  notReady(): Promise<string | undefined>
}

export type Listen = { hostname: string; port: number } | { unix: string }

/** Answers the three paths; undefined for any other, so that a role with a server of its own can use it too. */
export async function answerHealth(path: string, health: Health): Promise<Response | undefined> {
  switch (path) {
    case '/_liveness':
      return new Response('ok\n')
    case '/_readiness': {
      const reason = await health.notReady()
      return reason === undefined ? new Response('ready\n') : new Response(`${reason}\n`, { status: 503 })
    }
    case '/metrics':
      return new Response(await metricsText(), { headers: { 'content-type': 'text/plain; version=0.0.4' } })
    default:
      return undefined
  }
}

/** Serves only health; for roles without an HTTP door of their own. */
export function serveHealth(listen: Listen, health: Health): { stop(): Promise<void> } {
  const fetch = async (request: Request) =>
    (await answerHealth(new URL(request.url).pathname, health)) ??
    new Response('not found\n', { status: 404 })
  const server = 'unix' in listen ? Bun.serve({ unix: listen.unix, fetch }) : Bun.serve({ ...listen, fetch })
  return { stop: () => server.stop(true) }
}
