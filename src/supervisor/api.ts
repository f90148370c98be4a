/**
 * The API address of `headrace up`: health and metrics of all roles in one place.
 * `/_liveness` the supervisor's loop turns · `/_readiness` every role can do its work · `/metrics` of all roles, with
 * the label `role` · `/roles` what each process is and does, as JSON.
 */
import { metricsText } from '../observe/index.ts'
import { mergeMetrics } from './merge-metrics.ts'
import { askRole } from './run-folder.ts'

/** Less than Prometheus' and Kubernetes' usual patience, so that one dead role does not hide the others. */
const ANSWER_MS_MAX = 3_000

export type RoleStatus = { role: string; state: string; pid: number | undefined; restarts: number }

export type ApiOptions = {
  listen: { hostname: string; port: number }
  /** Processes that are asked over their sockets. */
  roles: readonly { role: string; socket: string }[]
  /** Everything that runs, the roles among it. */
  status(): RoleStatus[]
  /** One sentence while the start or the stop is not done. */
  notReady(): string | undefined
}

/** Reasons of all roles that are not ready, by role; empty when all are. */
export async function unreadyRoles(roles: ApiOptions['roles']): Promise<Map<string, string>> {
  const reasons = new Map<string, string>()
  await Promise.all(
    roles.map(async ({ role, socket }) => {
      try {
        const { ok, text } = await askRole(socket, '/_readiness', ANSWER_MS_MAX)
        if (!ok) reasons.set(role, text.trim())
      } catch {
        reasons.set(role, 'does not answer')
      }
    }),
  )
  return reasons
}

/** Throws EADDRINUSE when the address is taken. */
export function serveApi(options: ApiOptions): { port: number; stop(): Promise<void> } {
  const server = Bun.serve({
    ...options.listen,
    fetch: (request) => answer(new URL(request.url).pathname, options),
  })
  return { port: server.port ?? options.listen.port, stop: () => server.stop(true) }
}

async function answer(path: string, options: ApiOptions): Promise<Response> {
  switch (path) {
    case '/_liveness':
      return new Response('ok\n')
    case '/_readiness': {
      const busy = options.notReady()
      if (busy !== undefined) return new Response(`${busy}\n`, { status: 503 })
      const reasons = await unreadyRoles(options.roles)
      if (reasons.size === 0) return new Response('ready\n')
      const text = [...reasons].map(([role, reason]) => `${role}: ${reason}\n`).join('')
      return new Response(text, { status: 503 })
    }
    case '/metrics':
      return new Response(await allMetrics(options.roles), {
        headers: { 'content-type': 'text/plain; version=0.0.4' },
      })
    case '/roles':
      return Response.json(options.status())
    default:
      return new Response('not found; there are /_readiness, /_liveness, /metrics and /roles\n', {
        status: 404,
      })
  }
}

async function allMetrics(roles: ApiOptions['roles']): Promise<string> {
  const pages = new Map([['supervisor', await metricsText()]])
  const answers = await Promise.allSettled(
    roles.map(async ({ role, socket }) => [role, await askRole(socket, '/metrics', ANSWER_MS_MAX)] as const),
  )
  for (const answer of answers) {
    if (answer.status === 'fulfilled' && answer.value[1].ok) pages.set(answer.value[0], answer.value[1].text)
  }
  return mergeMetrics(pages)
}
