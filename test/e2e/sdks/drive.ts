/**
 * Drives the unmodified public SDKs against a capture address: posthog-node and posthog for Python as processes,
 * posthog-js in a real Chromium. Each returns what its SDK reported as an error.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { tool } from '../../support/tools.ts'

export type Drive = { host: string; token: string; events: number; users: number }

const HERE = import.meta.dirname
const PAGE_DEADLINE_MS = 60_000

async function run(command: string[]): Promise<string[]> {
  const child = Bun.spawn(command, { stdout: 'pipe', stderr: 'pipe' })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${err}`)
  const { failures } = JSON.parse(out.trim().split('\n').at(-1)!) as { failures: string[] }
  return err.trim() === '' ? failures : [...failures, err.trim()]
}

export function driveNode({ host, token, events, users }: Drive): Promise<string[]> {
  return run([process.execPath, join(HERE, 'posthog-node.ts'), host, token, String(events), String(users)])
}

export function drivePython({ host, token, events, users }: Drive): Promise<string[]> {
  return run([tool('python'), join(HERE, 'posthog_python.py'), host, token, String(events), String(users)])
}

/** One page per user; each sends its share. Errors are what the page logs as an error, and failed requests. */
export async function driveBrowser({ host, token, events, users }: Drive): Promise<string[]> {
  const built = await Bun.build({ entrypoints: [join(HERE, 'posthog-js.page.ts')], target: 'browser' })
  const script = await built.outputs[0]!.text()
  const pages = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request) =>
      new URL(request.url).pathname === '/page.js'
        ? new Response(script, { headers: { 'content-type': 'text/javascript' } })
        : new Response('<!doctype html><title>page</title><script src="/page.js"></script>', {
            headers: { 'content-type': 'text/html' },
          }),
  })
  const profile = mkdtempSync(join(tmpdir(), 'headrace-chromium-'))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: tool('chromium'),
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  const failures: string[] = []
  try {
    for (let user = 0; user < users; user++) {
      const share = Math.floor(events / users) + (user < events % users ? 1 : 0)
      const page = await browser.newPage()
      page.on('console', (message) => {
        if (message.type() === 'error') failures.push(`${message.text()} ${message.location().url}`)
      })
      page.on('requestfailed', (request) =>
        failures.push(`${request.url()}: ${request.failure()?.errorText}`),
      )
      const query = new URLSearchParams({ host, token, user: String(user), events: String(share) })
      await page.goto(`http://127.0.0.1:${pages.port}/?${query}`)
      await page.waitForFunction('globalThis.sent === true', undefined, { timeout: PAGE_DEADLINE_MS })
      // Leaving the page makes posthog-js send what it still holds.
      await page.close({ runBeforeUnload: true })
    }
    while (browser.pages().length > 1)
      await browser
        .pages()
        .at(-1)!
        .waitForEvent('close', { timeout: 5_000 })
        .catch(() => {})
  } finally {
    await browser.close()
    await pages.stop(true)
    rmSync(profile, { recursive: true, force: true })
  }
  return failures
}
