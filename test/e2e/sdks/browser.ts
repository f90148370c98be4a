/**
 * Drives the published browser SDKs in a real Chromium, one page per user. What a page logs as an error or a warning
 * and every request of it that fails is a failure. When a page is done it is left for another one of the same origin,
 * so that the SDK sends by sendBeacon what it still holds; there the list of what it took is read from local storage.
 */
import { join } from 'node:path'
import { type Browser, chromium, type Page, type Request } from 'playwright-core'
import { tool } from '../../support/tools.ts'
import { waitFor } from '../../support/wait-for.ts'
import type { Drive, Report } from './drive.ts'
import type { SentEvent, Wire } from './wire.ts'

const HERE = import.meta.dirname
const PAGE_DEADLINE_MS = 60_000
const PASSED_WITHIN_MS = 20_000
const AT_ONCE: ReadonlySet<string> = new Set(['$identify'])
/** The paths of pages whose SDK takes `$pageleave` when they are left. */
const TELL_LEAVING: ReadonlySet<string> = new Set(['/posthog-js', '/snippet'])
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export type PageOptions = {
  /** By `xhr` the page has no fetch when the SDK starts; by `leave` all is still held when the page is left. */
  transport: 'fetch' | 'xhr' | 'leave'
  compression: 'gzip' | 'none'
}

/** A Chromium and the pages that it visits. */
export class Pages {
  private constructor(
    private readonly browser: Browser,
    private readonly server: Bun.Server<undefined>,
    /** By path, beside the pages that every test has. */
    private readonly documents: Map<string, string>,
  ) {}

  static async start(): Promise<Pages> {
    const scripts = new Map<string, string>()
    const documents = new Map<string, string>()
    for (const name of ['posthog-js', 'posthog-js-lite']) {
      const built = await Bun.build({ entrypoints: [join(HERE, `${name}.page.ts`)], target: 'browser' })
      scripts.set(`/${name}.js`, await built.outputs[0]!.text())
    }
    const server = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      fetch: (request) => {
        const { pathname, searchParams } = new URL(request.url)
        const script = scripts.get(pathname)
        if (script !== undefined)
          return new Response(script, { headers: { 'content-type': 'text/javascript' } })
        return new Response(documents.get(pathname) ?? document(pathname, searchParams), {
          headers: { 'content-type': 'text/html' },
        })
      },
    })
    const browser = await chromium.launch({
      executablePath: tool('chromium'),
      headless: true,
      args: ARGUMENTS,
    })
    return new Pages(browser, server, documents)
  }

  /** posthog-js from npm, bundled with the page. */
  driveJs(drive: Drive, wire: Wire, { transport, compression }: PageOptions): Promise<Report> {
    return this.visit(drive, wire, '/posthog-js', { transport, compression }, async (page, sentSoFar) => {
      await page.waitForFunction('globalThis.captured === true', undefined, { timeout: PAGE_DEADLINE_MS })
      const sent = await sentSoFar()
      // What identifies a user is sent at once, by fetch even here.
      const atOnce = sent.filter(({ event }) => AT_ONCE.has(event))
      await wire.untilPassed(transport === 'leave' ? atOnce : sent, PASSED_WITHIN_MS)
    })
  }

  /** posthog-js as an HTML snippet loads it from the host of capture, with everything on that is on by default. */
  driveSnippet(drive: Drive, wire: Wire): Promise<Report> {
    return this.visit(drive, wire, '/snippet', {}, async (page, sentSoFar) => {
      await page.waitForFunction('globalThis.posthog.__loaded === true', undefined, {
        timeout: PAGE_DEADLINE_MS,
      })
      await page.click('button')
      await wire.untilPassed(await sentSoFar(), PASSED_WITHIN_MS)
    })
  }

  /** posthog-js-lite from npm, which reports by itself. */
  async driveLite(drive: Drive, wire: Wire): Promise<Report> {
    const own: Report[] = []
    const seen = await this.visit(drive, wire, '/posthog-js-lite', {}, async (page) => {
      await page.waitForFunction('globalThis.report !== undefined', undefined, { timeout: PAGE_DEADLINE_MS })
      own.push((await page.evaluate('globalThis.report')) as Report)
    })
    return {
      failures: [...seen.failures, ...own.flatMap(({ failures }) => failures)],
      sent: own.flatMap(({ sent }) => sent),
    }
  }

  /** Opens a page of `html` until `count` events passed; what went wrong. */
  async open(html: string, wire: Wire, count: number): Promise<string> {
    const context = await this.browser.newContext({
      userAgent: 'Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0',
    })
    try {
      // Nothing may say that a robot looks at the page, whose events the SDK would not send.
      await context.addInitScript(
        "for (const name of ['webdriver', 'userAgentData']) Object.defineProperty(navigator, name, { value: undefined })",
      )
      const page = await context.newPage()
      const failures = listen(page)
      this.documents.set('/example', html)
      await page.goto(`${this.server.url.origin}/example`)
      await waitFor('the events of the page', () => wire.events.length >= count, PASSED_WITHIN_MS)
      return (await failures()).join('\n')
    } finally {
      await context.close()
    }
  }

  /** Each user comes with a browser of its own, as far as storage and cookies go. */
  private async visit(
    { host, token, events, users, name }: Drive,
    wire: Wire,
    path: string,
    options: Record<string, string>,
    stay: (page: Page, sentSoFar: () => Promise<SentEvent[]>) => Promise<void>,
  ): Promise<Report> {
    const report: Report = { failures: [], sent: [] }
    const origin = this.server.url.origin
    for (let user = 0; user < users; user++) {
      const share = Math.floor(events / users) + (user < events % users ? 1 : 0)
      const query = new URLSearchParams({
        host,
        token,
        name,
        user: `${user}`,
        events: `${share}`,
        ...options,
      })
      const context = await this.browser.newContext()
      try {
        const page = await context.newPage()
        const failures = listen(page)
        const answered = answers(page)
        await page.goto(`${origin}${path}?${query}`)
        await stay(page, () => taken(page))
        // What passed the wire may not have come back: leaving now would be seen as a request that failed.
        await waitFor('the answers to the page', answered, PASSED_WITHIN_MS)
        await page.goto(`${origin}/left`)
        // The note of the last event comes through another process of the browser: on a busy machine after the page.
        if (TELL_LEAVING.has(path)) {
          const noted = async () => (await taken(page)).some(({ event }) => event === '$pageleave')
          await waitFor('the note of $pageleave', noted, PASSED_WITHIN_MS)
        }
        const sent = await taken(page)
        await wire.untilPassed(sent, PASSED_WITHIN_MS)
        report.sent.push(...sent)
        report.failures.push(...(await failures()))
      } finally {
        await context.close()
      }
    }
    return report
  }

  async close(): Promise<void> {
    await this.browser.close()
    await this.server.stop(true)
  }
}

/** Whether each request of the page has its answer. */
function answers(page: Page): () => Promise<boolean> {
  const open = new Set<Request>()
  page.on('request', (request) => open.add(request))
  page.on('response', (response) => open.delete(response.request()))
  page.on('requestfailed', (request) => open.delete(request))
  return async () => open.size === 0
}

/** Collects what goes wrong on the page. An answer that the SDK does not read to its end has not failed. */
function listen(page: Page): () => Promise<string[]> {
  const failures: Promise<string[]>[] = []
  const add = (text: string) => failures.push(Promise.resolve([text]))
  page.on('console', (message) => {
    const type = message.type()
    if (type === 'error' || type === 'warning') add(`${message.text()} ${message.location().url}`)
  })
  page.on('pageerror', (error) => add(String(error)))
  page.on('requestfailed', (request) => {
    const failure = `${request.url()}: ${request.failure()?.errorText}`
    failures.push(request.response().then((response) => (response?.ok() ? [] : [failure])))
  })
  return async () => (await Promise.all(failures)).flat()
}

/** What the SDK took on pages of this origin so far, as `before_send` noted it in the local storage. */
async function taken(page: Page): Promise<SentEvent[]> {
  const items = (await page.evaluate('Object.entries(localStorage)')) as [string, string][]
  return items.flatMap(([key, value]) => (UUID.test(key) ? [{ uuid: key, event: value }] : []))
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function document(path: string, query: URLSearchParams): string {
  if (path === '/left') return '<!doctype html><title>left</title>'
  if (path === '/snippet') return snippet(query.get('host')!, query.get('token')!, query.get('name')!)
  const before = query.get('transport') === 'xhr' ? '<script>window.fetch = undefined</script>' : ''
  return `<!doctype html><title>page</title>${before}<script type="module" src="${path}.js"></script>`
}

/** A stub that holds calls until the script from capture is there and takes them over, as every such snippet does. */
function snippet(host: string, token: string, name: string): string {
  const options = `{
    api_host: ${JSON.stringify(host)},
    opt_out_useragent_filter: true,
    before_send: (event) => { if (event) localStorage.setItem(event.uuid, event.event); return event },
  }`
  return `<!doctype html><title>snippet</title><button>Buy</button>
<script>
  window.posthog = Object.assign([], { _i: [[${JSON.stringify(token)}, ${options}, 'posthog']], people: [] })
  posthog.push(['capture', ${JSON.stringify(`${name} event`)}, { index: 0 }])
</script>
<script async crossorigin="anonymous" src="${host}/static/array.js"></script>`
}
