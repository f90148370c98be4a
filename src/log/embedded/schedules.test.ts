/**
 * Random schedules of two processes on one log: sends over one or several partitions, partitions let go of and taken
 * over, ends, kills and power cuts. What was acknowledged or shown is there, once, at its position, in its order,
 * and nothing is called damaged.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { isRetriable } from '../../event/index.ts'
import type { Producer } from '../log.ts'
import { EmbeddedLog } from './embedded-log.ts'
import { codeOf, TOPIC, withDir, withLog } from './log.fixture.ts'
import { type Attached, LOSSES, type Loss, PowerDisk, randomOf } from './power-disk.fixture.ts'
import { Truth } from './truth.fixture.ts'

setDefaultTimeout(300_000)

const PARTITIONS = 3
const RUNS = Number(process.env.SCHEDULE_RUNS ?? 40)
const SMALL = { segmentBytes: 6_000, journalHalfBytes: 16_384, writerWaitMs: 60, journalRetryMs: 0 }
/** What a send to a partition of the other process, or one caught by a kill, may say. */
const EXPECTED = new Set([
  undefined,
  'HR_LOG_NOT_WRITER',
  'HR_LOG_SYNC_FAILED',
  'HR_LOG_UNAVAILABLE',
  'HR_LOG_CLOSED',
])

type Step =
  | { do: 'send'; process: number; partitions: number[]; records: number; bytes: number; wait: boolean }
  | { do: 'let go' | 'end' | 'kill' | 'look'; process: number }
  | { do: 'cut power'; loss: Loss; seed: number }

const process_ = fc.nat({ max: 1 })
const send: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('send' as const),
  process: process_,
  partitions: fc.subarray([0, 1, 2], { minLength: 1 }),
  records: fc.integer({ min: 1, max: 4 }),
  bytes: fc.integer({ min: 0, max: 2_500 }),
  wait: fc.boolean(),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: send, weight: 12 },
  {
    arbitrary: fc.record({
      do: fc.constantFrom('let go' as const, 'end' as const, 'kill' as const),
      process: process_,
    }),
    weight: 3,
  },
  { arbitrary: fc.record({ do: fc.constant('look' as const), process: process_ }), weight: 2 },
  {
    arbitrary: fc.record({
      do: fc.constant('cut power' as const),
      loss: fc.constantFrom(...LOSSES),
      seed: fc.nat({ max: 1_000 }),
    }),
    weight: 1,
  },
)

/** A process: its log is opened anew after it ended. */
type Actor = { attached: Attached; log: EmbeddedLog; producer: Producer }

class Machine {
  private disk: PowerDisk
  private actors: (Actor | undefined)[] = [undefined, undefined]
  private readonly sending = new Set<Promise<unknown>>()
  private boots = 0
  private number = 0
  readonly truth = new Truth()
  readonly unexpected: unknown[] = []

  constructor(
    private readonly root: string,
    dir: string,
  ) {
    this.disk = this.boot(dir)
  }

  private boot(dir: string): PowerDisk {
    const random = randomOf(this.boots)
    const disk = new PowerDisk(dir, `boot ${this.boots++}`)
    // Syncs that take their time let commits, cleaning and ends meet.
    disk.onSync = async () => {
      for (let turns = random() * 6; turns > 1; turns--) await new Promise(setImmediate)
    }
    return disk
  }

  private actor(process: number): Actor {
    const known = this.actors[process]
    if (known) return known
    const attached = this.disk.attach()
    const warn = (sentence: string) => {
      if (/damage/.test(sentence)) this.unexpected.push(sentence)
    }
    const log = new EmbeddedLog({ dir: this.disk.dir, ...SMALL, warn, operations: attached.operations })
    const actor = { attached, log, producer: log.producer({ name: 'test', deadlineMs: 30_000 }) }
    this.actors[process] = actor
    return actor
  }

  async run(step: Step): Promise<void> {
    if (step.do === 'send') await this.send(step)
    else if (step.do === 'cut power') await this.cutPower(step.loss, step.seed)
    else if (step.do === 'look')
      await this.truth.check(this.actor(step.process).log, PARTITIONS).catch((error) => {
        // The other process is opening what was to be looked at.
        if (!isRetriable(error)) throw error
      })
    else if (step.do === 'let go') {
      const actor = this.actor(step.process)
      await actor.producer.close()
      actor.producer = actor.log.producer({ name: 'test', deadlineMs: 30_000 })
    } else {
      if (step.do === 'kill') this.actors[step.process]?.attached.stop()
      await this.end(step.process)
    }
  }

  private async send(step: Step & { do: 'send' }): Promise<void> {
    const texts = Array.from({ length: step.records * step.partitions.length }, () => `n${this.number++}`)
    const sending = this.actor(step.process)
      .producer.send(
        texts.map((text, i) => ({
          topic: TOPIC.name,
          partition: step.partitions[i % step.partitions.length]!,
          header: Buffer.alloc(0),
          value: Buffer.from(text.padEnd(step.bytes, '.')),
        })),
      )
      .then((positions) => {
        positions.forEach(({ partition, offset }, i) => {
          this.truth.note(partition, offset, texts[i]!)
        })
      })
    const checked = codeOf(sending).then((code) => {
      if (!EXPECTED.has(code)) this.unexpected.push(code)
    })
    this.sending.add(checked)
    void checked.finally(() => this.sending.delete(checked))
    if (step.wait) await checked
  }

  private async end(process: number): Promise<void> {
    const actor = this.actors[process]
    this.actors[process] = undefined
    await actor?.log.close()
  }

  async cutPower(loss: Loss, seed: number): Promise<void> {
    this.disk.stop()
    await Promise.all(this.sending)
    const next = join(this.root, `boot-${this.boots}`)
    await this.disk.cutPower(next, loss, randomOf(seed))
    for (const process of [0, 1]) await this.end(process)
    await rm(this.disk.dir, { recursive: true })
    this.disk = this.boot(next)
  }

  async finish(): Promise<void> {
    await Promise.all(this.sending)
    for (const process of [0, 1]) await this.end(process)
    await this.truth.check(this.actor(0).log, PARTITIONS)
    await this.end(0)
  }
}

describe.skipIf(process.platform !== 'linux')('schedules', () => {
  test(`${RUNS} schedules keep every promise`, async () => {
    let records = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) =>
        withDir(async (root) => {
          const dir = join(root, 'boot')
          await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: PARTITIONS }))
          const machine = new Machine(root, dir)
          for (const one of steps) await machine.run(one)
          await machine.cutPower('nothing stays', 0)
          await machine.finish()
          records += machine.truth.size
          expect(machine.truth.mistakes).toEqual([])
          expect(machine.unexpected).toEqual([])
        }),
      ),
      {
        numRuns: RUNS,
        endOnFailure: true,
        ...(process.env.SCHEDULE_SEED && { seed: Number(process.env.SCHEDULE_SEED) }),
      },
    )
    expect(records).toBeGreaterThan(RUNS * 5)
  })
})
