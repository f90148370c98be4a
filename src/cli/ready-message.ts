/** What `headrace up` prints when everything is ready: all that one needs for the first event. */
import type { Settings } from '../catalog/index.ts'
import { warehouseUrl } from './context.ts'

export function readyMessage(settings: Settings, token: string): string {
  const capture = `http://${reachable(settings.captureAddress)}`
  return `
  Headrace is ready.

    Send events to   ${capture}
    Project token    ${token}
    Health, metrics  http://${reachable(settings.apiAddress)}/_readiness, /metrics
    ClickHouse       ${withoutPassword(warehouseUrl(settings))}
    Data folder      ${settings.dataDir}

  In a page (posthog-js):
    posthog.init('${token}', { api_host: '${capture}' })

  In Node (posthog-node):
    const client = new PostHog('${token}', { host: '${capture}' })

  In a shell:
    curl ${capture}/i/v0/e/ -H 'content-type: application/json' \\
      -d '{"api_key":"${token}","event":"hello","distinct_id":"me"}'

  See it a second later:
    ./headrace sql "SELECT timestamp, event, distinct_id, person_id FROM events ORDER BY timestamp DESC LIMIT 10"
`
}

/** An address that listens everywhere is reached here by loopback. */
function reachable(address: string): string {
  return address.replace(/^0\.0\.0\.0:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:')
}

function withoutPassword(url: string): string {
  const parsed = new URL(url)
  parsed.password = ''
  return parsed.toString().replace(/\/$/, '')
}
