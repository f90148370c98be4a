/**
 * Policies from outside: set by the command line, obeyed by capture, and what they and the validation refuse comes to the
 * project's owner, while the audit stays exact.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { waitFor } from '../support/wait-for.ts'

const TEST_MS = 120_000
const LIVE_WITHIN_MS = 5_000
const STORED_WITHIN_MS = 30_000

describe('I4: what a policy refuses', () => {
  let product: Product
  beforeAll(async () => {
    product = await startProduct()
  }, TEST_MS)
  afterAll(async () => {
    await product?.stop()
  }, TEST_MS)

  async function send(...events: object[]): Promise<{ status: number; body: Record<string, unknown> }> {
    const batch = events.map((event) => ({ distinct_id: 'ada', ...event }))
    const response = await fetch(`${product.captureUrl}/batch/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ api_key: product.token, batch }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  /** The one dead letter is listed, shown and sent again, and the audit stays exact. */
  async function comesBack(): Promise<void> {
    const json = async (...args: string[]) => JSON.parse((await product.run(...args, '--json')).stdout)
    const listed = await json('dead-letters', 'list')
    expect(listed).toMatchObject({
      total: 1,
      groups: [{ project: 'default', reason: 'restricted', count: 1 }],
    })
    const { uuid } = listed.letters[0]
    const shown = await product.run('dead-letters', 'show', uuid)
    expect([shown.code, shown.stdout]).toEqual([0, expect.stringContaining('"why": "odd"')])
    const dry = await product.run('dead-letters', 'replay', '--reason', 'restricted')
    expect([dry.code, dry.stdout]).toEqual([1, expect.stringContaining('1 would be sent again')])
    expect((await product.run('dead-letters', 'replay')).code).toBe(2)
    const sent = await product.run('dead-letters', 'replay', '--all', '--why', 'a test', '--yes')
    expect([sent.code, sent.stdout]).toEqual([0, expect.stringContaining('1 of 1 were sent again')])
    const stored = () => product.sql<{ event: string }>("SELECT event FROM events WHERE event = 'suspect'")
    await waitFor('the replayed event', async () => (await stored()).length === 1, STORED_WITHIN_MS)
    expect(await json('dead-letters', 'list')).toMatchObject({ total: 0 })
    const traced = await product.run('trace', uuid)
    expect(traced.stdout).toContain('a test')
    expect(traced.stdout).toContain('sent again from the dead letters')
    expect(traced.stdout).toContain('in ClickHouse, once')
    const ofId = await json('trace', '--distinct-id', 'ada')
    expect(ofId.map(({ state }: { state: string }) => state).sort()).toEqual([
      'dead_lettered',
      'stored',
      'stored',
    ])
    const audited = await json('audit')
    expect(audited.exact).toBe(true)
  }

  test(
    'is told, kept and counted',
    async () => {
      const file = join(product.dataDir, 'policy.json')
      const policy = {
        restrictions: [
          { action: 'drop', events: ['unwanted'] },
          { action: 'dead_letter', events: ['suspect'] },
        ],
      }
      await writeFile(file, JSON.stringify(policy))
      const set = await product.run('project', 'policy', 'default', '--set', file)
      expect([set.code, JSON.parse(set.stdout)]).toEqual([0, policy])
      const dropped = async () => (await send({ event: 'unwanted' })).body.rejected_count === 1
      await waitFor('the policy', dropped, LIVE_WITHIN_MS)

      const { status, body } = await send(
        { event: 'usual' },
        { event: 'suspect', properties: { why: 'odd' } },
        { event: 'wrong', uuid: 'none' },
      )
      expect([status, body.rejected_count]).toEqual([200, 1])

      const warned = () =>
        product.sql<{ reason: string; event: string; source: string }>(`
          SELECT JSONExtractString(details, 'reason') AS reason, JSONExtractString(details, 'sample', 'event') AS event, source
          FROM ingestion_warnings WHERE type = 'events_rejected' ORDER BY reason`)
      await waitFor('both warnings', async () => (await warned()).length === 2, STORED_WITHIN_MS)
      expect(await warned()).toEqual([
        { reason: 'invalid_uuid', event: 'wrong', source: 'capture' },
        { reason: 'restricted', event: 'unwanted', source: 'capture' },
      ])
      const dead = () =>
        product.sql<{ event: string; reason: string; raw_value: string }>(
          'SELECT event, reason, raw_value FROM dead_letters',
        )
      await waitFor('the dead letter', async () => (await dead()).length === 1, STORED_WITHIN_MS)
      const [letter] = await dead()
      expect([letter!.event, letter!.reason]).toEqual(['suspect', 'restricted'])
      expect(letter!.raw_value).toContain('"why":"odd"')
      const events = await product.sql<{ event: string }>(
        "SELECT event FROM events WHERE event <> 'unwanted'",
      )
      expect(events).toEqual([{ event: 'usual' }])

      const audit = await product.run('audit', '--json')
      expect(audit.code).toBe(0)
      expect(JSON.parse(audit.stdout).exact).toBe(true)

      await comesBack()

      const kept = async () => {
        const { stdout } = await product.run('rejected', '--project', 'default', '--json')
        return JSON.parse(stdout) as { status: number; reasons: object; sample: string }[]
      }
      const whole = { status: 200, reasons: { invalid_uuid: 1 } }
      await waitFor(
        'the sample',
        async () =>
          (await kept()).some((one) => Bun.deepEquals({ status: one.status, reasons: one.reasons }, whole)),
        STORED_WITHIN_MS,
      )
      const used = async () =>
        (JSON.parse((await product.run('project', 'usage', '--json')).stdout) as { refused: number }[])[0]
      await waitFor('the usage', async () => ((await used())?.refused ?? 0) >= 2, STORED_WITHIN_MS)

      const cleared = await product.run('project', 'policy', 'default', '--clear')
      expect(JSON.parse(cleared.stdout)).toEqual({})
      const wrong = join(product.dataDir, 'wrong.json')
      await writeFile(wrong, '{"lane": "fast"}')
      const refused = await product.run('project', 'policy', 'default', '--set', wrong)
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('lane is "fast"')])
    },
    TEST_MS,
  )
})
