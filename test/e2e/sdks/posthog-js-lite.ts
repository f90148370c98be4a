/**
 * Sends events with the published posthog-js-lite outside of a browser, and prints what failed and what it sent.
 * Arguments: host, token, events, users, name. It holds one user at a time, as an application on a device does.
 */
import { sendWithLite } from './posthog-js-lite.scenario.ts'

const [host, token, events, users, name] = process.argv.slice(2)
const reports = []
for (let user = 0; user < Number(users); user++) {
  const share = Math.floor(Number(events) / Number(users))
  reports.push(await sendWithLite({ host: host!, token: token!, name: name!, user, events: share }))
}
console.log(
  JSON.stringify({
    failures: reports.flatMap(({ failures }) => failures),
    sent: reports.flatMap(({ sent }) => sent),
  }),
)
