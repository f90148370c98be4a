/**
 * Drives the published @segment/analytics-next in a real Chromium, one page and one storage per user, every second one
 * with batches. What a page logs as an error or a warning and every request of it that fails is a failure. Who sends
 * batches leaves with one event named `<name> on leave` that only the end of the page makes the SDK send.
 */
import { join } from 'node:path'
import { type Browser, chromium, type Page, type Request } from 'playwright-core'
import { tool } from '../../support/tools.ts'
import { waitFor } from '../../support/wait-for.ts'
import type { Drive } from '../sdks/drive.ts'

const PAGE_DEADLINE_MS = 60_000
const DELIVERED_WITHIN_MS = 20_000
/** The page, what came before the identify, the identify, the group. */
const OTHER_EVENTS = 4

const SHOP = '<!doctype html><title>Shop</title><script type="module" src="/page.js"></script>'

export async function driveSegmentBrowser({ host, token, events, users, name }: Drive): Promise<string[]> {
  const built = await Bun.build({
    entrypoints: [join(import.meta.dirname, 'segment.page.ts')],
    target: 'browser',
  })
  const script = await built.outputs[0]!.text()
  const pages = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request) =>
      new URL(request.url).pathname === '/page.js'
        ? new Response(script, { headers: { 'content-type': 'text/javascript' } })
        : new Response(new URL(request.url).pathname === '/left' ? '' : SHOP, {
            headers: { 'content-type': 'text/html' },
          }),
  })
  const failures: string[] = []
  let browser: Browser | undefined
  try {
    browser = await chromium.launch({
      executablePath: tool('chromium'),
      headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
    })
    for (let user = 0; user < users; user++) {
      const share = Math.floor(events / users) + (user < events % users ? 1 : 0)
      const query = new URLSearchParams({
        host,
        key: token,
        name,
        user: `${user}`,
        events: `${share}`,
        delivery: isBatching(user) ? 'batching' : 'standard',
      })
      const context = await browser.newContext()
      const page = await context.newPage()
      const delivered = watch(page, failures)
      await page.goto(`${pages.url}?${query}`)
      await page.waitForFunction('globalThis.taken === true', undefined, { timeout: PAGE_DEADLINE_MS })
      await waitFor(
        'delivery',
        () => delivered() === share + OTHER_EVENTS,
        DELIVERED_WITHIN_MS,
        () => `${delivered()} of ${share + OTHER_EVENTS} events are delivered; ${failures.join(', ')}`,
      )
      failures.push(...((await page.evaluate('globalThis.failures')) as string[]))
      if (isBatching(user)) {
        await page.evaluate('void globalThis.leave()')
        await page.waitForURL('**/left')
      }
      await context.close()
    }
  } finally {
    await browser?.close()
    await pages.stop(true)
  }
  return failures
}

/** Whether the user's page sends batches. */
export function isBatching(user: number): boolean {
  return user % 2 === 1
}

/** Notes what goes wrong on the page; the function tells how many messages were answered with success. */
function watch(page: Page, failures: string[]): () => number {
  let delivered = 0
  page.on('console', (message) => {
    const type = message.type()
    if (type === 'error' || type === 'warning') failures.push(`${message.text()} ${message.location().url}`)
  })
  page.on('pageerror', (error) => failures.push(String(error)))
  page.on('request', async (request) => {
    const response = await request.response()
    if (response?.ok() === true) delivered += messagesOf(request)
    else failures.push(`${request.url()}: ${response?.status() ?? request.failure()?.errorText}`)
  })
  return () => delivered
}

function messagesOf(request: Request): number {
  if (request.method() !== 'POST') return 0
  const body = request.postDataJSON() as { batch?: unknown[] }
  return body.batch?.length ?? 1
}
