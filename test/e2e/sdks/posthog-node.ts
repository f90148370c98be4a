/**
 * Sends events with the published posthog-node, as an application would, and prints which uuids it sent.
 * Arguments: host, token, events, users. Each user is anonymous first, identifies itself, and belongs to a company.
 */
import { PostHog } from 'posthog-node'

const [host, token, events, users] = process.argv.slice(2)
const client = new PostHog(token!, { host: host!, flushAt: 20, flushInterval: 200 })
const failures: string[] = []
client.on('error', (error: unknown) => failures.push(String(error)))

const userCount = Number(users)
for (let user = 0; user < userCount; user++) {
  const distinctId = `node-user-${user}`
  client.capture({ distinctId: `node-anon-${user}`, event: 'node before identify', properties: { step: 0 } })
  client.capture({
    distinctId,
    event: '$identify',
    properties: { $anon_distinct_id: `node-anon-${user}`, $set: { plan: 'pro', index: user } },
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
    distinctId: `node-user-${i % userCount}`,
    event: 'node event',
    properties: { index: i, sent_ms: Date.now() },
    groups: { company: `company-${i % 5}` },
  })
  if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 20))
}
await client.shutdown(20_000)
console.log(JSON.stringify({ failures }))
