/**
 * Drives unmodified public SDKs as processes of their own against a capture address. Each prints, as its last line,
 * what the SDK reported as an error and every event that the SDK took: `{ failures, sent }`. What an SDK writes to
 * standard error is a failure too.
 */
import { join } from 'node:path'
import { tool } from '../../support/tools.ts'
import type { SentEvent } from './wire.ts'

export type Drive = {
  /** Of capture, or of a recording proxy before it. */
  host: string
  token: string
  /** How many events named `<name> event` are sent, spread over `users`. */
  events: number
  users: number
  /** Stands in the events' names and in the users' ids, so that runs can be told apart. */
  name: string
}

export type Report = { failures: string[]; sent: SentEvent[] }

const HERE = import.meta.dirname

export function argumentsOf({ host, token, events, users, name }: Drive): string[] {
  return [host, token, String(events), String(users), name]
}

/** Runs `command` and reads its report. */
export async function runSdk(
  command: string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): Promise<Report> {
  const child = Bun.spawn(command, {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, ...options.env },
    ...(options.cwd ? { cwd: options.cwd } : {}),
  })
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${err}`)
  const report = JSON.parse(out.trim().split('\n').at(-1)!) as Report
  if (err.trim() !== '') report.failures.push(err.trim())
  return report
}

/** posthog-node; in mode v1 by its own environment variable. Asks for flags too when `secretKey` is given. */
export function driveNode(drive: Drive, mode: 'v0' | 'v1' = 'v0', secretKey = ''): Promise<Report> {
  const script = join(HERE, 'posthog-node.ts')
  return runSdk([process.execPath, script, ...argumentsOf(drive), secretKey], {
    env: { POSTHOG_CAPTURE_MODE: mode },
  })
}

/** posthog-js-lite outside of a browser. */
export function driveLite(drive: Drive): Promise<Report> {
  return runSdk([process.execPath, join(HERE, 'posthog-js-lite.ts'), ...argumentsOf(drive)])
}

export type PythonMode = { mode: 'v0' | 'v1'; compression: 'none' | 'gzip' | 'deflate' | 'zstd' }

/** posthog for Python. Asks for flags too when `secretKey` is given. */
export function drivePython(
  drive: Drive,
  { mode, compression }: PythonMode,
  secretKey = '',
): Promise<Report> {
  const script = join(HERE, 'posthog_python.py')
  return runSdk([tool('python'), script, ...argumentsOf(drive), mode, compression, secretKey])
}

/** posthog-go, with `secretKey` for the flags; built by the Go of this machine, without a C compiler. */
export function driveGo(drive: Drive, secretKey: string): Promise<Report> {
  return runSdk([tool('go'), 'run', '.', ...argumentsOf(drive), secretKey], {
    cwd: join(HERE, 'go'),
    env: { CGO_ENABLED: '0' },
  })
}
