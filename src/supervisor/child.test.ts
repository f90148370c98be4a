import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { waitFor } from '../../test/support/wait-for.ts'
import { Child } from './child.ts'

setDefaultTimeout(30_000)

const dir = mkdtempSync(join(tmpdir(), 'hr-child-'))
const program = join(dir, 'role.ts')
/** A role that does nothing but answer, and stops when it is asked to or its pipe closes; `MODE` makes it misbehave. */
writeFileSync(
  program,
  `const mode = process.env.MODE
if (mode === 'dies') process.exit(7)
const server = Bun.serve({ unix: process.env.SOCKET, fetch: () => new Response('ok') })
process.on('SIGTERM', () => { if (mode !== 'stubborn') process.exit(0) })
process.stdin.on('end', () => process.exit(0)).resume()
console.log('up ' + process.pid)`,
)
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const logger = pino({ level: 'silent' })
const children: Child[] = []
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.stop(0)))
})

let sockets = 0
function makeChild(mode = 'good'): { child: Child; lines: string[] } {
  const socket = join(dir, `${sockets++}.sock`)
  const lines: string[] = []
  const child = new Child({
    role: 'load',
    command: [process.execPath, program],
    env: { ...(process.env as Record<string, string>), MODE: mode, SOCKET: socket },
    socket,
    logger,
    onLine: (line) => lines.push(line),
  })
  children.push(child)
  return { child, lines }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('a child', () => {
  test('is healthy after its first answer, and its lines are read', async () => {
    const { child, lines } = makeChild()
    child.start()
    expect(child.state).toBe('starting')
    await waitFor('health', () => child.state === 'healthy', 10_000)
    await waitFor('line', () => lines.includes(`up ${child.pid}`), 5_000)
  })

  test('that is killed comes back as another process', async () => {
    const { child } = makeChild()
    child.start()
    await waitFor('health', () => child.state === 'healthy', 10_000)
    const first = child.pid!
    child.kill('SIGKILL')
    await waitFor('restart', () => child.restarts === 1 && child.state === 'healthy', 10_000)
    expect(child.pid).not.toBe(first)
    expect(isAlive(first)).toBe(false)
    expect(child.deathsInARow).toBe(1)
  })

  test('that always dies is tried again and again', async () => {
    const { child } = makeChild('dies')
    child.start()
    await waitFor('three starts', () => child.restarts >= 3, 15_000)
  })

  test('that hangs is killed and comes back', async () => {
    const { child } = makeChild()
    child.start()
    await waitFor('health', () => child.state === 'healthy', 10_000)
    const hung = child.pid!
    child.kill('SIGSTOP')
    await waitFor('restart', () => child.restarts === 1 && child.state === 'healthy', 30_000)
    expect(isAlive(hung)).toBe(false)
  }, 40_000)

  test('stops when asked, and does not come back', async () => {
    const { child } = makeChild()
    child.start()
    await waitFor('health', () => child.state === 'healthy', 10_000)
    const pid = child.pid!
    await child.stop(5_000)
    expect(child.state).toBe('stopped')
    expect(isAlive(pid)).toBe(false)
    expect(child.restarts).toBe(0)
  })

  test('that does not stop in time is killed', async () => {
    const { child } = makeChild('stubborn')
    child.start()
    await waitFor('health', () => child.state === 'healthy', 10_000)
    const pid = child.pid!
    const asked = performance.now()
    await child.stop(300)
    expect(performance.now() - asked).toBeLessThan(3_000)
    expect(isAlive(pid)).toBe(false)
  })

  test('can be stopped while it waits for its restart', async () => {
    const { child } = makeChild('dies')
    child.start()
    await waitFor('backing off', () => child.state === 'backing off', 10_000)
    await child.stop(1_000)
    expect(child.state).toBe('stopped')
    expect(child.pid).toBeUndefined()
  })
})

test('children stop when their supervisor is killed', async () => {
  const socket = join(dir, 'orphan.sock')
  const code = `import { Child } from ${JSON.stringify(join(import.meta.dir, 'child.ts'))}
    import pino from 'pino'
    const child = new Child({ role: 'load', command: [process.execPath, ${JSON.stringify(program)}],
      env: { ...process.env, SOCKET: ${JSON.stringify(socket)} }, socket: ${JSON.stringify(socket)},
      logger: pino({ level: 'silent' }), onLine: (line) => console.log(line) })
    child.start()`
  const script = join(import.meta.dir, `.orphan-${process.pid}.ts`)
  writeFileSync(script, code)
  const parent = Bun.spawn([process.execPath, script], { stdout: 'pipe' })
  try {
    const { value } = await parent.stdout.getReader().read()
    const pid = Number(/up (\d+)/.exec(new TextDecoder().decode(value))![1])
    parent.kill('SIGKILL')
    await waitFor('end of the orphan', () => !isAlive(pid), 5_000)
  } finally {
    parent.kill('SIGKILL')
    rmSync(script, { force: true })
  }
})
