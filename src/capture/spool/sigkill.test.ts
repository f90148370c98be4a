/** A capture process that is killed while it spools and while it drains, again and again, under load. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../../../test/support/wait-for.ts'
import { decodeRawHeader, RAW_TOPICS, uuidV7 } from '../../event/index.ts'
import { openEmbeddedLog } from '../../log/index.ts'
import { pause } from '../../platform/index.ts'
import { tempDir } from './detour.fixture.ts'
import type { ProcessArguments } from './process.fixture.ts'

setDefaultTimeout(120_000)

const PARTITIONS = 4
const CLIENTS = 6

let dir: ReturnType<typeof tempDir>
let child: Bun.Subprocess<'ignore', 'pipe', 'inherit'> | undefined
let url = ''
beforeEach(async () => {
  dir = tempDir()
  const log = await openEmbeddedLog({ dir: join(dir.path, 'log') })
  for (const name of RAW_TOPICS)
    await log.createTopic({ name, partitions: PARTITIONS, recordBytesMax: 1 << 20 })
  await log.close()
})
afterEach(async () => {
  child?.kill('SIGKILL')
  await child?.exited
  dir.remove()
})

async function start(): Promise<void> {
  const program = join(import.meta.dir, 'process.fixture.ts')
  const paths: ProcessArguments = [join(dir.path, 'log'), dir.path]
  child = Bun.spawn([process.execPath, program, ...paths], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  })
  const { value } = await child.stdout.getReader().read()
  url = new TextDecoder().decode(value).trim()
}

async function kill(): Promise<void> {
  child!.kill('SIGKILL')
  await child!.exited
}

const down = () => writeFileSync(join(dir.path, 'DOWN'), '')
const up = () => rmSync(join(dir.path, 'DOWN'), { force: true })

/** One distinct id: the next event only after the one before was acknowledged, the same uuid until it is. */
class Client {
  readonly acknowledged: string[] = []
  private ending = false
  readonly ended: Promise<void>

  constructor(readonly distinctId: string) {
    this.ended = this.run()
  }

  async end(): Promise<void> {
    this.ending = true
    await this.ended
  }

  private async run(): Promise<void> {
    while (!this.ending) {
      const uuid = uuidV7(Date.now())
      const body = JSON.stringify({ event: 'e', distinct_id: this.distinctId, token: 'phc_test', uuid })
      while (!(await this.post(body))) await pause(5)
      this.acknowledged.push(uuid)
    }
  }

  private async post(body: string): Promise<boolean> {
    try {
      const response = await fetch(`${url}/e/`, { method: 'POST', body, signal: AbortSignal.timeout(8_000) })
      return response.status === 200
    } catch {
      return false
    }
  }
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1] ?? 0,
  )
}

/** Uuids in the log by distinct id, first copies only, in order. */
async function stored(): Promise<Map<string, string[]>> {
  const log = await openEmbeddedLog({ dir: join(dir.path, 'log') })
  const found = new Map<string, Set<string>>()
  for (const topic of RAW_TOPICS) {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const { start: from, end } = await log.bounds(topic, partition)
      for await (const records of log.read(topic, partition, from, end)) {
        for (const record of records) {
          const { distinctId, uuid } = decodeRawHeader(record.header)
          const uuids = found.get(distinctId) ?? new Set()
          found.set(distinctId, uuids.add(uuid))
        }
      }
    }
  }
  await log.close()
  return new Map([...found].map(([distinctId, uuids]) => [distinctId, [...uuids]]))
}

test('every acknowledged event arrives, in the order of its sender, whatever moment the kill meets', async () => {
  await start()
  const clients = Array.from({ length: CLIENTS }, (_, n) => new Client(`d${n}`))
  const seen = { spooling: 0, draining: 0 }
  const random = () => Math.random() * 40
  for (let round = 0; round < 12; round++) {
    down()
    const spooled = await metric('headrace_capture_spooled_total')
    await waitFor(
      'events in the spool',
      async () => (await metric('headrace_capture_spooled_total')) > spooled + 20,
      20_000,
    )
    await pause(random())
    if (round % 2 === 0) {
      seen.spooling++
    } else {
      const drained = await metric('headrace_capture_drained_total')
      up()
      await waitFor(
        'draining',
        async () => (await metric('headrace_capture_drained_total')) > drained,
        20_000,
      )
      await pause(random())
      seen.draining++
    }
    await kill()
    up()
    await start()
  }
  expect(seen).toEqual({ spooling: 6, draining: 6 })
  await waitFor('the direct way', async () => (await metric('headrace_capture_spool_state')) === 0, 30_000)
  for (const client of clients) await client.end()
  child!.kill('SIGTERM')
  expect(await child!.exited).toBe(0)
  expect(readdirSync(join(dir.path, 'spool'))).toEqual([])
  const found = await stored()
  for (const { distinctId, acknowledged } of clients) {
    expect(acknowledged.length).toBeGreaterThan(50)
    const wanted = new Set(acknowledged)
    expect((found.get(distinctId) ?? []).filter((uuid) => wanted.has(uuid))).toEqual(acknowledged)
  }
})
