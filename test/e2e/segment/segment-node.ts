/**
 * Sends events with the published @segment/analytics-node, as an application would, and prints what failed.
 * Arguments: host, write key, events, users, name. Each user is anonymous first, identifies itself, and joins a company.
 */
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, events, users, name] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
]
const analytics = new Analytics({ writeKey, host, flushAt: 20, flushInterval: 200 })
const failures: string[] = []
analytics.on('error', (error) => failures.push(`${error.code}: ${String(error.reason)}`))

const userCount = Number(users)
for (let user = 0; user < userCount; user++) {
  const ids = { userId: `${name}-user-${user}`, anonymousId: `${name}-anon-${user}` }
  analytics.track({ anonymousId: ids.anonymousId, event: `${name} before identify`, properties: { step: 0 } })
  analytics.identify({ ...ids, traits: { plan: 'pro', index: user } })
  analytics.group({ ...ids, groupId: `company-${user % 5}`, traits: { size: user % 5 } })
  analytics.page({ ...ids, name: 'Home', properties: { url: `http://shop.example/${user}` } })
  analytics.screen({ ...ids, name: 'Main' })
}
// Batches go out side by side: what the events build on is sent before them.
await analytics.flush()
for (let i = 0; i < Number(events); i++) {
  analytics.track({
    userId: `${name}-user-${i % userCount}`,
    event: `${name} event`,
    properties: { index: i, sent_ms: Date.now() },
    context: { groupId: `company-${i % 5}` },
  })
}
await analytics.closeAndFlush()
console.log(JSON.stringify({ failures, sent: [] }))
