/** What one user of an application with posthog-js-lite does; runs in a page and outside of a browser. */
import { PostHog } from 'posthog-js-lite'
import type { Report } from './drive.ts'

export type LiteUser = { host: string; token: string; name: string; user: number; events: number }

/** Resolves when the SDK says that all was sent. */
export async function sendWithLite({ host, token, name, user, events }: LiteUser): Promise<Report> {
  const report: Report = { failures: [], sent: [] }
  const client = new PostHog(token, { host, persistence: 'memory', flushAt: 20, flushInterval: 200 })
  client.on('error', (error: unknown) => report.failures.push(String(error)))
  for (const kind of ['capture', 'identify', 'alias', 'autocapture']) {
    client.on(kind, ({ uuid, event }: { uuid: string; event: string }) => report.sent.push({ uuid, event }))
  }
  client.capture(`${name} before identify`)
  client.identify(`${name}-user-${user}`, { plan: 'pro', index: user })
  client.group('company', `company-${user % 5}`, { size: user % 5 })
  for (let index = 0; index < events; index++) {
    client.capture(`${name} event`, { index, sent_ms: Date.now() })
  }
  if (client.getFeatureFlag('no-such-flag')) report.failures.push('a flag that nobody made has a value')
  await client.shutdown(20_000)
  return report
}
