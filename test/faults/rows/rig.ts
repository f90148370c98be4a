/**
 * The product under a small steady load, for verbs that change stored rows (squash, deletion) and are killed on their
 * way. `killedAt` runs a verb that must die at its failpoint; what the load sends goes on meanwhile.
 */
import { join } from 'node:path'
import { type Product, startProduct } from '../../support/product.ts'
import { waitFor } from '../../support/wait-for.ts'

const ROOT = join(import.meta.dir, '../../..')
const WITHIN_MS = 30_000
const LOAD_EVERY_MS = 200
const LOAD_EVENTS = 5
const LOAD_IDS = 40
/** A verb waits several times until all is loaded. */
const LOAD_FLUSH_MS = '300'

export type Sent = { event: string; distinct_id: string; properties?: object; timestamp?: string }

export class RowsRig {
  private stopping = false
  private loading = Promise.resolve()
  /** What the load had answered with success. */
  acked = 0

  private constructor(readonly product: Product) {}

  static async start(): Promise<RowsRig> {
    const rig = new RowsRig(await startProduct({ env: { HEADRACE_LOAD_FLUSH_MS: LOAD_FLUSH_MS } }))
    rig.loading = rig.load()
    rig.loading.catch(() => {})
    return rig
  }

  /** Throws when the load was refused. */
  async stopLoad(): Promise<void> {
    this.stopping = true
    await this.loading
  }

  async stop(): Promise<void> {
    await this.stopLoad().catch(() => {})
    await this.product.stop()
  }

  private async load(): Promise<void> {
    for (let n = 0; !this.stopping; n++) {
      await this.send(
        ...Array.from({ length: LOAD_EVENTS }, (_, i) => ({
          event: 'load',
          distinct_id: `user-${(n + i) % LOAD_IDS}`,
          properties: { $set: { n } },
        })),
      )
      this.acked += LOAD_EVENTS
      await Bun.sleep(LOAD_EVERY_MS)
    }
  }

  async send(...batch: Sent[]): Promise<void> {
    const status = await this.sendAs(this.product.token, ...batch)
    if (status !== 200) throw new Error(`capture answers ${status}`)
  }

  /** The status of the answer. */
  async sendAs(token: string, ...batch: Sent[]): Promise<number> {
    const response = await fetch(`${this.product.captureUrl}/batch/`, {
      method: 'POST',
      body: JSON.stringify({ api_key: token, batch }),
    })
    await response.text()
    return response.status
  }

  async one<T>(query: string): Promise<T> {
    return (await this.product.sql<T>(query))[0]!
  }

  async countOf(table: string, where: string): Promise<number> {
    return (await this.one<{ n: number }>(`SELECT count() AS n FROM ${table} WHERE ${where}`)).n
  }

  async untilCount(what: string, table: string, where: string, n: number): Promise<void> {
    let last = -1
    await waitFor(
      what,
      async () => {
        last = await this.countOf(table, where)
        return last === n
      },
      WITHIN_MS,
      () => `${last} instead of ${n}\n${this.product.output.slice(-20).join('\n')}`,
    )
  }

  /** Throws when the verb does not end with `code`. */
  async run(code: number, ...args: string[]): Promise<string> {
    const done = await this.product.run(...args)
    if (done.code !== code)
      throw new Error(`headrace ${args.join(' ')} ends with ${done.code}:\n${done.stdout}\n${done.stderr}`)
    return done.stdout
  }

  /** Throws when the verb does not die where the failpoint says. */
  async killedAt(point: string, args: readonly string[]): Promise<void> {
    const verb = Bun.spawn([join(ROOT, 'headrace'), ...args], {
      env: { PATH: process.env.PATH ?? '', ...this.product.env, HEADRACE_TEST_FAILPOINT: `${point}:1` },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const said = await new Response(verb.stderr).text()
    await verb.exited
    if (!said.includes(`failpoint ${point}`)) throw new Error(`not killed at ${point}:\n${said}`)
  }
}
