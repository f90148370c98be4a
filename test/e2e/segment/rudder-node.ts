/**
 * Sends events with the published @rudderstack/rudder-sdk-node, as an application would, and prints what failed.
 * Arguments: host, write key, events, users, name. Each user is anonymous first, identifies itself, and joins a company.
 */
import RudderAnalytics from '@rudderstack/rudder-sdk-node'

const [host, writeKey, events, users, name] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
]
const failures: string[] = []
const client = new RudderAnalytics(writeKey, {
  dataPlaneUrl: host,
  flushAt: 20,
  flushInterval: 200,
  errorHandler: (error) => failures.push(String(error)),
})

/** Counts what the SDK says is delivered. */
let called = 0
let delivered = 0
function noted(error?: Error): void {
  delivered++
  if (error) failures.push(String(error))
}

/** A flush sends one batch; the last one is answered when all are. */
async function flushAll(): Promise<void> {
  while (delivered < called) {
    await client.flush()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const userCount = Number(users)
for (let user = 0; user < userCount; user++) {
  const ids = { userId: `${name}-user-${user}`, anonymousId: `${name}-anon-${user}` }
  const before = { anonymousId: ids.anonymousId, event: `${name} before identify`, properties: { step: 0 } }
  called += 4
  client.track(before, noted)
  client.identify({ ...ids, traits: { plan: 'pro', index: user } }, noted)
  client.group({ ...ids, groupId: `company-${user % 5}`, traits: { size: user % 5 } }, noted)
  client.page({ ...ids, name: 'Home', properties: { url: `http://shop.example/${user}` } }, noted)
}
await flushAll()
for (let i = 0; i < Number(events); i++) {
  called++
  client.track(
    {
      userId: `${name}-user-${i % userCount}`,
      event: `${name} event`,
      properties: { index: i, sent_ms: Date.now() },
      context: { groupId: `company-${i % 5}` },
    },
    noted,
  )
}
await flushAll()
console.log(JSON.stringify({ failures, sent: [] }))
