/**
 * Sends events with the published posthog-node, as an application would, and prints what failed and what it sent.
 * Arguments: host, token, events, users, name, secret key. Each user is anonymous first, identifies itself, and belongs
 * to a company. With a secret key the client decides flags
 * by itself, as far as it can, and stays until it has asked for their definitions twice.
 */
import { PostHog } from 'posthog-node'
import type { SentEvent } from './wire.ts'

const [host, token, events, users, name, secretKey] = process.argv.slice(2)
const failures: string[] = []
const sent: SentEvent[] = []

let definitionsAsked = 0
const ownFlags = {
  personalApiKey: secretKey,
  featureFlagsPollingInterval: 100,
  fetch: async (url: string, options: RequestInit) => {
    const response = await fetch(url, options)
    if (url.includes('/flags/definitions')) definitionsAsked++
    return response
  },
}
const client = new PostHog(token!, {
  host: host!,
  flushAt: 20,
  flushInterval: 200,
  ...(secretKey ? ownFlags : {}),
})
client.on('error', (error: unknown) => failures.push(String(error)))
for (const kind of ['capture', 'identify', 'alias']) {
  client.on(kind, ({ uuid, event, distinct_id }: { uuid: string; event: string; distinct_id: string }) =>
    sent.push({ uuid, event, distinctId: distinct_id }),
  )
}

const userCount = Number(users)
for (let user = 0; user < userCount; user++) {
  const distinctId = `${name}-user-${user}`
  client.capture({
    distinctId: `${name}-anon-${user}`,
    event: `${name} before identify`,
    properties: { step: 0 },
  })
  client.capture({
    distinctId,
    event: '$identify',
    properties: { $anon_distinct_id: `${name}-anon-${user}`, $set: { plan: 'pro', index: user } },
  })
  client.groupIdentify({
    groupType: 'company',
    groupKey: `company-${user % 5}`,
    properties: { size: user % 5 },
    distinctId,
  })
}
for (let i = 0; i < Number(events); i++) {
  client.capture({
    distinctId: `${name}-user-${i % userCount}`,
    event: `${name} event`,
    properties: { index: i, sent_ms: Date.now() },
    groups: { company: `company-${i % 5}` },
  })
  if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 20))
}

if (secretKey) {
  const flags = await client.evaluateFlags(`${name}-user-0`)
  if (flags.isEnabled('no-such-flag') || flags.getFlag('no-such-flag') !== undefined) {
    failures.push('a flag that nobody made has a value')
  }
  const until = performance.now() + 10_000
  while (definitionsAsked < 2 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
await client.shutdown(20_000)
console.log(JSON.stringify({ failures, sent }))
