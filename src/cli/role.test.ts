/** A role alone, whose servers are away or mute: it waits and says for what, and it can always be stopped. */
import { afterEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts } from '../../test/support/product.ts'
import { waitFor } from '../../test/support/wait-for.ts'

/** Below the 10 s that a supervisor or an orchestrator gives. */
const STOPPED_MS_MAX = 9_500

const cleanUps: (() => void)[] = []
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp()
})

function startRole(postgresPort: number) {
  const dataDir = mkdtempSync(join(tmpdir(), 'headrace-role-'))
  const [port] = freePorts(1)
  const role = Bun.spawn([join(import.meta.dir, '../../headrace'), 'ingest'], {
    env: {
      PATH: process.env.PATH ?? '',
      HEADRACE_DATA_DIR: dataDir,
      HEADRACE_POSTGRES: `postgres://nobody@127.0.0.1:${postgresPort}/nowhere`,
      HEADRACE_HEALTH_ADDRESS: `127.0.0.1:${port}`,
    },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  })
  cleanUps.push(() => {
    role.kill('SIGKILL')
    rmSync(dataDir, { recursive: true, force: true })
  })
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { keepalive: false }).catch(
      () => undefined,
    )
    return response && { status: response.status, text: await response.text() }
  }
  return { role, ask }
}

describe('a role whose Postgres', () => {
  test('refuses connections waits, says so, and stops when asked', async () => {
    const { role, ask } = startRole(freePorts(1)[0]!)
    const waits = async () => (await ask('/_readiness'))?.text.includes('HR_STATE_UNAVAILABLE') === true
    await waitFor('reason in /_readiness', waits, 15_000)
    expect((await ask('/_readiness'))?.status).toBe(503)
    expect((await ask('/_liveness'))?.status).toBe(200)
    expect((await ask('/metrics'))?.text).toContain('process_cpu_user_seconds_total')
    const asked = performance.now()
    role.kill('SIGTERM')
    expect(await role.exited).toBe(0)
    expect(performance.now() - asked).toBeLessThan(STOPPED_MS_MAX)
  }, 40_000)

  test('takes connections and never answers is alive, and stops when asked', async () => {
    let connections = 0
    const mute = Bun.listen({
      hostname: '127.0.0.1',
      port: 0,
      socket: { open: () => void connections++, data() {} },
    })
    cleanUps.push(() => mute.stop(true))
    const { role, ask } = startRole(mute.port)
    await waitFor('connection', () => connections > 0, 15_000)
    expect((await ask('/_liveness'))?.status).toBe(200)
    expect((await ask('/_readiness'))?.status).toBe(503)
    const asked = performance.now()
    role.kill('SIGTERM')
    await role.exited
    expect(performance.now() - asked).toBeLessThan(STOPPED_MS_MAX)
  }, 40_000)
})
