/**
 * What tests of delivery stand on: a real embedded log and Postgres, rows as ingest makes them, and a receiver on loopback
 * that remembers what it got and can be told how to answer. `bun src/deliver/deliver.fixture.ts <options as JSON>` is a
 * deliver process of its own.
 */
import { createHmac } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { plainEventRow } from '../../test/support/event-row.ts'
import type { TestPostgres } from '../../test/support/postgres.ts'
import { createTopics } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { openPostgres } from '../catalog/index.ts'
import {
  ByteReader,
  DELIVERIES,
  type DeliveryRow,
  EVENTS,
  type EventRow,
  encodeRowHeader,
  type Place,
  personUuid,
  TOPICS,
} from '../event/index.ts'
import { type Log, openEmbeddedLog, type Producer } from '../log/index.ts'
import { openWarehouse, type Warehouse } from '../warehouse/index.ts'
import { type Deliver, type DeliverDeps, startDeliver } from './deliver.ts'
import { type Destination, readConfig } from './destination.ts'
import { eventsTopic } from './events-topic.ts'
import { newSigningSecret } from './http/sign.ts'
import { openSecretBox } from './secrets.ts'
import { DestinationStore } from './store.ts'

export const PARTITIONS = 2
const WITHIN_MS = 20_000
export const SIGNING = newSigningSecret()

export type Received = { id: string; headers: Headers; body: string; path: string }
type Answer = (got: Received, times: number) => Response | Promise<Response>

/** An HTTP server that remembers every request, and answers 200 unless told otherwise. */
export class Receiver {
  readonly got: Received[] = []
  private readonly times = new Map<string, number>()
  answer: Answer = () => new Response('{}')
  private readonly server

  constructor() {
    this.server = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      idleTimeout: 60,
      fetch: async (request) => {
        const body = await request.text()
        const id = request.headers.get('webhook-id') ?? ''
        const got = { id, headers: request.headers, body, path: new URL(request.url).pathname }
        const times = (this.times.get(id) ?? 0) + 1
        this.times.set(id, times)
        this.got.push(got)
        return this.answer(got, times)
      },
    })
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.port}/hook`
  }

  /** How often each id was sent. */
  sent(id: string): number {
    return this.times.get(id) ?? 0
  }

  get ids(): Set<string> {
    return new Set(this.times.keys())
  }

  async stop(): Promise<void> {
    await this.server.stop(true)
  }
}

/** Whether a request carries a signature of `secret`, by the rules of Standard Webhooks. */
export function verifies({ headers, body, id }: Received, secret: string): boolean {
  const signed = `${id}.${headers.get('webhook-timestamp')}.${body}`
  const mac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'))
    .update(signed)
    .digest('base64')
  return (headers.get('webhook-signature') ?? '').split(' ').includes(`v1,${mac}`)
}

export class DeliverBench {
  private readonly delivers: Deliver[] = []
  private readonly children: Bun.Subprocess[] = []
  private readonly places = new Map<number, { next: number; last: Place | undefined }>()

  private constructor(
    readonly postgres: TestPostgres,
    readonly dir: string,
    readonly log: Log,
    readonly producer: Producer,
    readonly ids: Map<string, string>,
    readonly warehouse: Warehouse,
    readonly store: DestinationStore,
  ) {}

  /** `warehouse`: only history asks it. */
  static async open(
    postgres: TestPostgres,
    warehouse = openWarehouse({ url: 'http://127.0.0.1:1' }),
    otherLog?: Log,
  ): Promise<DeliverBench> {
    await postgres.sql`TRUNCATE destination, delivery_cursor, delivery_fence, delivery_retry, load_fence, load_intent`
    const dir = await mkdtemp(join(tmpdir(), 'headrace-deliver-'))
    const log = otherLog ?? (await openEmbeddedLog({ dir }))
    const ids = await createTopics(log, PARTITIONS)
    const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
    const store = new DestinationStore(postgres.sql, openSecretBox('', join(dir, 'secret.key')))
    return new DeliverBench(postgres, dir, log, producer, ids, warehouse, store)
  }

  get sql() {
    return this.postgres.sql
  }

  async destination(name: string, url: string, more: Record<string, unknown> = {}): Promise<Destination> {
    const { options, ...rest } = more as { options?: Record<string, unknown> }
    const config = readConfig({ ...rest, options: { url, signing: { secret: 'signing' }, ...options } })
    return this.store.create(
      { teamId: 1, name, kind: 'webhook', config, secrets: { signing: SIGNING } },
      await eventsTopic(this.log),
    )
  }

  /** Events of project 1, one after the other, in the partition. Gives their rows. */
  async events(
    count: number,
    row: (n: number) => Partial<EventRow> = () => ({}),
    partition = 0,
  ): Promise<EventRow[]> {
    const at = this.places.get(partition) ?? { next: 0, last: undefined }
    this.places.set(partition, at)
    const rawId = this.ids.get(TOPICS.raw)!
    const rows: EventRow[] = []
    const records = Array.from({ length: count }, () => {
      const offset = at.next++
      const made = plainEventRow({
        uuid: personUuid(partition, `event ${offset}`),
        distinct_id: `user-${partition === 0 ? '' : `${partition}-`}${offset % 7}`,
        properties: JSON.stringify({ n: offset }),
        created_at: Date.now(),
        _log_id: rawId,
        _partition: partition,
        _offset: offset,
        ...row(offset),
      })
      rows.push(made)
      const header = encodeRowHeader({
        source: { logId: rawId, partition, offset, sub: 0 },
        prev: at.last,
        teamId: made.team_id,
        timestampMs: made.timestamp,
        restamped: false,
      })
      at.last = { offset, sub: 0 }
      return { topic: TOPICS.events, partition, header, value: EVENTS.encode(made) }
    })
    await this.producer.send(records)
    return rows
  }

  deps(more: Partial<DeliverDeps> = {}): DeliverDeps {
    return {
      settings: { deliverAllow: '127.0.0.1', deliverRetriesMax: 1_000, secretKey: '' },
      secretFile: join(this.dir, 'secret.key'),
      log: this.log,
      sql: this.sql,
      warehouse: this.warehouse,
      partitions: PARTITIONS,
      logger: pino({ level: process.env.HEADRACE_TEST_LOG ?? 'silent' }),
      // The shortest pauses that there are.
      random: () => 0,
      ...more,
    }
  }

  async deliver(more: Partial<DeliverDeps> = {}): Promise<Deliver> {
    const deliver = await startDeliver(this.deps(more))
    this.delivers.push(deliver)
    return deliver
  }

  async stop(deliver: Deliver): Promise<void> {
    this.delivers.splice(this.delivers.indexOf(deliver), 1)
    await deliver.stop()
  }

  /** A deliver process; `failpoints` as of HEADRACE_TEST_FAILPOINT. */
  spawn(failpoints = '', seed = 1): Bun.Subprocess {
    const options: ChildOptions = { dir: this.dir, socketDir: this.postgres.url.socketDir }
    const child = Bun.spawn([process.execPath, import.meta.path, JSON.stringify(options)], {
      stdout: 'inherit',
      stderr: process.env.HEADRACE_TEST_LOG ? 'inherit' : 'ignore',
      env: { ...process.env, HEADRACE_TEST_FAILPOINT: failpoints, HEADRACE_TEST_SEED: String(seed) },
    })
    this.children.push(child)
    return child
  }

  /** Rows of topic `deliveries`: the newest of each destination and source. */
  async outcomes(): Promise<Map<string, DeliveryRow>> {
    const rows = new Map<string, DeliveryRow>()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const { end } = await this.log.bounds(TOPICS.deliveries, partition)
      for await (const records of this.log.read(TOPICS.deliveries, partition, 0, end)) {
        for (const { value } of records) {
          const row = DELIVERIES.decode(new ByteReader(value))
          const key = `${row.destination_id}/${row._log_id}/${row._partition}/${row._offset}/${row._sub}`
          const before = rows.get(key)
          if (!before || before._version <= row._version) rows.set(key, row)
        }
      }
    }
    return rows
  }

  /** What Postgres says of a destination, over all partitions. */
  async sums(id: string) {
    const [row] = await this.sql<
      {
        seen: number
        filtered: number
        sampled_out: number
        delivered: number
        failed: number
        expired: number
        detached: number
        waiting: number
      }[]
    >`
      SELECT sum(seen)::bigint AS seen, sum(filtered)::bigint AS filtered, sum(sampled_out)::bigint AS sampled_out,
        sum(delivered)::bigint AS delivered, sum(failed)::bigint AS failed, sum(expired)::bigint AS expired,
        count(next_offset) AS detached,
        (SELECT count(*) FROM delivery_retry WHERE destination_id = ${id} AND NOT again) AS waiting
      FROM delivery_cursor WHERE destination_id = ${id}`
    return row!
  }

  async waitForSums(
    what: string,
    id: string,
    holds: (sums: Awaited<ReturnType<DeliverBench['sums']>>) => boolean,
  ) {
    let last = ''
    await waitFor(
      what,
      async () => {
        // While Postgres is away nobody knows.
        const sums = await this.sums(id).catch((error: Error) => {
          last = error.message
        })
        if (!sums) return false
        last = JSON.stringify(sums)
        return holds(sums)
      },
      WITHIN_MS,
      () => last,
    )
    return this.sums(id)
  }

  /** Every event has come to its end at all of these. */
  async waitUntilSettled(ids: readonly string[], events: number, withinMs: number): Promise<void> {
    let last = ''
    await waitFor(
      `${events} events settled`,
      async () => {
        const all = await Promise.all(ids.map((id) => this.sums(id)))
        last = JSON.stringify(all)
        return all.every(({ seen, waiting }) => seen === events && waiting === 0)
      },
      withinMs,
      () => last,
    )
  }

  async killChildren(): Promise<void> {
    for (const child of this.children) child.kill('SIGKILL')
    await Promise.all(this.children.map((child) => child.exited))
  }

  async close(): Promise<void> {
    await this.killChildren()
    await Promise.all(this.delivers.map((deliver) => deliver.stop()))
    await this.producer.close()
    await this.log.close()
    await rm(this.dir, { recursive: true, force: true })
  }
}

type ChildOptions = { dir: string; socketDir: string }

if (import.meta.main) {
  const { dir, socketDir } = JSON.parse(process.argv[2]!) as ChildOptions
  await startDeliver({
    settings: { deliverAllow: '127.0.0.1', deliverRetriesMax: 1_000, secretKey: '' },
    secretFile: join(dir, 'secret.key'),
    log: await openEmbeddedLog({ dir }),
    sql: openPostgres({ url: { socketDir }, name: 'deliver', connectionsMax: 8 }),
    warehouse: openWarehouse({ url: 'http://127.0.0.1:1' }),
    partitions: PARTITIONS,
    logger: pino({ level: process.env.HEADRACE_TEST_LOG ?? 'silent' }),
    random: () => Math.random() / 10,
  })
}
