/** The product from outside: started, used, hurt and stopped as its user would, with real processes. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts, type Product, startProduct } from '../../test/support/product.ts'
import { waitFor } from '../../test/support/wait-for.ts'

setDefaultTimeout(30_000)

/** A dependency that comes back must be used again within 10 s (I5); starting a process is part of it here. */
/** After this every capture knows a project that was made. */
const KNOWN_MS_MAX = 5_000
const RECOVERED_MS_MAX = 20_000
const STOPPED_MS_MAX = 10_000

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Sends until it is accepted, as SDKs do, and waits for the row. */
async function sendAndSee(product: Product, distinctId: string): Promise<void> {
  const send = async () => {
    const response = await fetch(`${product.captureUrl}/i/v0/e/`, {
      method: 'POST',
      body: JSON.stringify({ api_key: product.token, event: 'seen', distinct_id: distinctId }),
      keepalive: false,
    }).catch(() => undefined)
    return response?.ok === true
  }
  await waitFor('accepted event', send, RECOVERED_MS_MAX, () => product.output.slice(-30).join('\n'))
  const seen = async () => {
    const rows = await product
      .sql<{ events: number }>(`SELECT count() AS events FROM events WHERE distinct_id = '${distinctId}'`)
      .catch(() => [])
    return (rows[0]?.events ?? 0) > 0
  }
  await waitFor(`row of ${distinctId}`, seen, RECOVERED_MS_MAX, () => product.output.slice(-30).join('\n'))
}

describe('headrace up', () => {
  let product: Product
  beforeAll(async () => {
    product = await startProduct()
  }, 60_000)
  afterAll(async () => {
    await product?.stop()
  }, 30_000)

  test('an event is a row that `headrace sql` prints', async () => {
    await sendAndSee(product, 'first')
    const json = await product.run(
      'sql',
      '--json',
      "SELECT event, toUInt64(18446744073709551615) AS big FROM events WHERE distinct_id = 'first'",
    )
    expect(json).toEqual({ code: 0, stdout: '[{"event":"seen","big":18446744073709551615}]\n', stderr: '' })
    const table = await product.run('sql', "SELECT event FROM events WHERE distinct_id = 'first'")
    expect(table.stdout).toContain('│ seen  │')
  }, 60_000)

  test('a query that ClickHouse refuses is a finding, in words', async () => {
    const { code, stdout, stderr } = await product.run('sql', '--json', 'SELECT nothing FROM nowhere')
    expect(code).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toContain('UNKNOWN_TABLE')
    expect(stderr).not.toContain('    at ')
  })

  test('the API address has the health and the metrics of all roles', async () => {
    expect(await (await fetch(`${product.apiUrl}/_liveness`)).text()).toBe('ok\n')
    expect((await fetch(`${product.apiUrl}/_readiness`)).status).toBe(200)
    const metrics = await (await fetch(`${product.apiUrl}/metrics`)).text()
    for (const role of ['supervisor', 'capture', 'ingest', 'load', 'warehouse']) {
      expect(metrics).toContain(`process_resident_memory_bytes{role="${role}"}`)
    }
    expect(metrics.match(/^# TYPE process_resident_memory_bytes /gm)?.length).toBe(1)
  })

  test('doctor finds every hop sound, and an event goes the whole way', async () => {
    const { code, stdout } = await product.run('doctor', '--probe')
    expect(stdout).toContain('Every hop is sound.')
    expect(stdout).not.toContain('BROKEN')
    expect(code).toBe(0)
  }, 30_000)

  test('I4: trace tells the life of an event, audit finds all accounted for', async () => {
    const [row] = await product.sql<{ uuid: string }>("SELECT uuid FROM events WHERE distinct_id = 'first'")
    const found = await product.run('trace', row!.uuid)
    expect(found.stdout).toContain('ingest decided: stored')
    expect(found.stdout).toContain('in ClickHouse, once')
    expect(found.code).toBe(0)
    const unknown = await product.run('trace', '00000000-0000-4000-8000-000000000000')
    expect(unknown.stdout).toContain('not found')
    expect(unknown.code).toBe(1)
    expect((await product.run('trace', 'no-uuid')).code).toBe(2)

    const audit = await product.run('audit', '--json')
    const report = JSON.parse(audit.stdout) as {
      exact: boolean
      unaccounted: number
      partitions: { stored: number }[]
    }
    expect(report).toMatchObject({ exact: true, unaccounted: 0 })
    expect(report.partitions.reduce((sum, { stored }) => sum + stored, 0)).toBeGreaterThan(0)
    expect(audit.code).toBe(0)
  }, 30_000)

  test('project create makes a project that list shows, once', async () => {
    expect((await product.run('project', 'create', 'shop', '--token', 'phc_shop')).code).toBe(0)
    const { stdout } = await product.run('project', 'list', '--json')
    expect(JSON.parse(stdout)).toEqual([
      { team_id: 1, name: 'default', token: 'phc_test' },
      { team_id: expect.any(Number), name: 'shop', token: 'phc_shop' },
    ])
    expect((await product.run('project', 'create', 'shop')).stderr).toContain('HR_PROJECT_EXISTS')
  }, 30_000)

  test('a token counts within seconds of its project, also when it was refused just before', async () => {
    const late = { ...product, token: 'phc_late' }
    const knock = () =>
      fetch(`${product.captureUrl}/i/v0/e/`, {
        method: 'POST',
        body: JSON.stringify({ api_key: late.token, event: 'knock', distinct_id: 'early' }),
      })
    expect((await knock()).status).toBe(401)
    expect((await product.run('project', 'create', 'late', '--token', late.token)).code).toBe(0)
    await waitFor('the door to know the project', async () => (await knock()).status === 200, KNOWN_MS_MAX)
    await sendAndSee(late, 'in-time')
  })

  test('a second start on the same data folder is refused with one sentence that names the first', async () => {
    const second = Bun.spawn([join(import.meta.dir, '../../headrace'), 'up'], {
      env: { ...(process.env as Record<string, string>), ...product.env },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const stderr = await new Response(second.stderr).text()
    expect(await second.exited).toBe(1)
    expect(stderr).toContain(`process ${(await product.pids()).supervisor} already runs Headrace`)
    expect(stderr.trim().split('\n').length).toBe(1)
  })

  for (const role of ['capture', 'ingest', 'load', 'warehouse', 'postgres']) {
    test(`I5: ${role} comes back after SIGKILL, and events go on`, async () => {
      const before = (await product.pids())[role]!
      await product.kill(role, 'SIGKILL')
      const restarted = async () => {
        const pid = (await product.pids())[role]
        return pid !== undefined && pid !== before
      }
      await waitFor(`restart of ${role}`, restarted, RECOVERED_MS_MAX)
      await sendAndSee(product, `after-${role}`)
      await product.ready(RECOVERED_MS_MAX)
    }, 90_000)
  }
})

test('SIGTERM ends everything within 10 s, and the next start finds what was stored', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'headrace-'))
  try {
    const first = await startProduct({ dataDir })
    await sendAndSee(first, 'kept')
    const pids = Object.values(await first.pids())
    const asked = performance.now()
    expect(await first.stop()).toBe(0)
    expect(performance.now() - asked).toBeLessThan(STOPPED_MS_MAX)
    expect(pids.filter(isAlive)).toEqual([])

    const second = await startProduct({ dataDir })
    try {
      expect(await second.sql("SELECT event FROM events WHERE distinct_id = 'kept'")).toEqual([
        { event: 'seen' },
      ])
    } finally {
      await second.stop()
    }
    await expectRefusal(
      { ...second.env, HEADRACE_PARTITIONS: '16' },
      1,
      'born with 8 partitions and HEADRACE_PARTITIONS is 16',
    )
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}, 120_000)

test('nothing outlives a killed supervisor, and the next start takes over', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'headrace-'))
  try {
    const first = await startProduct({ dataDir })
    await sendAndSee(first, 'before')
    const { supervisor, ...pids } = await first.pids()
    process.kill(supervisor!, 'SIGKILL')
    await waitFor('end of all roles', () => Object.values(pids).filter(isAlive).length === 0, 15_000)
    const second = await startProduct({ dataDir })
    try {
      await sendAndSee(second, 'after')
    } finally {
      await second.stop()
    }
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}, 90_000)

describe('I7: what stops the boot, with one sentence', () => {
  const rows: [rule: string, env: Record<string, string>, code: number, said: string][] = [
    [
      'a wrong setting',
      { HEADRACE_LOAD_FLUSH_MS: 'soon' },
      2,
      'HEADRACE_LOAD_FLUSH_MS is "soon"; allowed is',
    ],
    ['a setting that nobody knows', { HEADRACE_FLUSH: '1' }, 2, 'HEADRACE_FLUSH is not a setting'],
    ['a log of an unknown kind', { HEADRACE_LOG: 'pulsar://x' }, 2, 'HEADRACE_LOG is "pulsar://x"'],
  ]
  test.each(rows)('%s', async (_, env, code, said) => {
    const dataDir = mkdtempSync(join(tmpdir(), 'headrace-'))
    try {
      await expectRefusal({ ...env, HEADRACE_DATA_DIR: dataDir }, code, said)
    } finally {
      rmSync(dataDir, { recursive: true, force: true })
    }
  })

  test('an address that somebody else has', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'headrace-'))
    const [port] = freePorts(1)
    const other = Bun.listen({ hostname: '127.0.0.1', port: port!, socket: { data() {} } })
    try {
      await expectRefusal(
        { HEADRACE_CAPTURE_ADDRESS: `127.0.0.1:${port}`, HEADRACE_DATA_DIR: dataDir },
        1,
        'give another address with HEADRACE_CAPTURE_ADDRESS',
      )
    } finally {
      other.stop(true)
      rmSync(dataDir, { recursive: true, force: true })
    }
  })
})

async function expectRefusal(env: Record<string, string>, code: number, said: string): Promise<void> {
  const up = Bun.spawn([join(import.meta.dir, '../../headrace'), 'up'], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const stderr = await new Response(up.stderr).text()
  expect(await up.exited).toBe(code)
  expect(stderr).toContain(said)
  expect(stderr.trim().split('\n').length).toBe(1)
}
