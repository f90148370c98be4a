import { describe, expect, test } from 'bun:test'
import {
  Allowance,
  INTERRUPTS_BURST,
  INTERRUPTS_FREE,
  INTERRUPTS_PER_SECOND,
  SUSPENDED,
} from './allowance.ts'
import { runChain } from './chain.ts'
import { compileTransformation } from './compile.ts'
import { OutputTooLarge, Sandbox } from './sandbox.ts'

const HELPERS = { geoip: () => null, isBot: () => false, hash: (text: string) => text, lookup: () => null }
const eventOf = (n: number) => ({
  uuid: `018f4b2e-0000-7000-8000-${String(n).padStart(12, '0')}`,
  event: n % 2 ? 'slow' : 'quick',
  distinctId: 'd',
  timestampMs: n,
  properties: { n },
})
const BIG = 64 * 2 ** 20

describe('the allowance of heavy events', () => {
  test('light events are free, heavy ones use it up, time brings it back, up to the burst', () => {
    let now = 0
    const allowance = new Allowance(() => now)
    for (let i = 0; i < 100_000; i++) allowance.spend(INTERRUPTS_FREE)
    expect(allowance.isSpent).toBe(false)
    allowance.spend(INTERRUPTS_BURST + INTERRUPTS_FREE)
    expect(allowance.isSpent).toBe(true)
    now = 1_000
    expect(allowance.isSpent).toBe(false)
    allowance.spend(INTERRUPTS_PER_SECOND + INTERRUPTS_FREE)
    expect(allowance.isSpent).toBe(true)
    now = 1_000_000
    allowance.spend(INTERRUPTS_BURST - 1 + INTERRUPTS_FREE)
    expect(allowance.isSpent).toBe(false)
    allowance.spend(1 + INTERRUPTS_FREE)
    expect(allowance.isSpent).toBe(true)
  })

  test('what is not run any more is quarantined, whatever the policy, and each event ends once', async () => {
    const source = 'export default (event) => { if (event.event === "slow") for (;;); return event }'
    const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS)
    const run = sandbox.run.bind(sandbox)
    const allowance = new Allowance(() => 0)
    allowance.spend(INTERRUPTS_BURST - 150 + INTERRUPTS_FREE)
    const events = Array.from({ length: 10 }, (_, n) => eventOf(n))
    const outcomes = await runChain([{ name: 's', policy: 'pass', run }], events, {
      limits: { allowance, outputCharsMax: BIG },
    })
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      ...['kept', 'kept', 'kept', 'kept'],
      ...Array(6).fill('quarantined'),
    ])
    expect(outcomes[9]).toEqual({ kind: 'quarantined', step: 's', failure: SUSPENDED })
    // What was decided before runs whatever is left of it.
    const again = await runChain([{ name: 's', policy: 'pass', run }], events)
    expect(again.map(({ kind }) => kind)).toEqual(Array(10).fill('kept'))
    sandbox.close()
  })
})

test('a batch that becomes too much is refused as a whole, one event never', async () => {
  const source = 'export default (event) => { event.properties.text = "x".repeat(1000); return event }'
  const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS)
  const steps = [{ name: 's', policy: 'pass' as const, run: sandbox.run.bind(sandbox) }]
  const limits = { allowance: new Allowance(), outputCharsMax: 1_500 }
  const events = [eventOf(0), eventOf(1)]
  await expect(runChain(steps, events, { limits })).rejects.toBeInstanceOf(OutputTooLarge)
  for (const event of events) expect((await runChain(steps, [event], { limits }))[0]!.kind).toBe('kept')
  sandbox.close()
})
