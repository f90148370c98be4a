/// <reference lib="dom" />
/** Runs in a real browser: one user with the published posthog-js-lite. When all is sent, `window.report` is there. */
import type { Report } from './drive.ts'
import { sendWithLite } from './posthog-js-lite.scenario.ts'

declare global {
  var report: Report | undefined
}

const query = new URLSearchParams(location.search)
const text = (key: string) => query.get(key)!
globalThis.report = await sendWithLite({
  host: text('host'),
  token: text('token'),
  name: text('name'),
  user: Number(text('user')),
  events: Number(text('events')),
})
