/** Whatever happens to the log, the spool's disk and the process, what was acknowledged arrives, in order. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import fc from 'fast-check'
import { pause } from '../../platform/index.ts'
import {
  CLEAN,
  event,
  FaultyDisk,
  judge,
  openTarget,
  openTestWriter,
  type TestWriter,
  tempDir,
} from './detour.fixture.ts'

setDefaultTimeout(300_000)

type Fault =
  | { kind: 'requests'; count: number }
  | { kind: 'hang' | 'answer' | 'slow' | 'quick' | 'spoolFull' | 'spoolRoom' | 'restart' }
  | { kind: 'wait'; ms: number }

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('requests' as const), count: fc.nat({ max: 60 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat({ max: 300 }) }) },
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'hang' as const,
        'answer' as const,
        'slow' as const,
        'quick' as const,
        'spoolFull' as const,
        'spoolRoom' as const,
        'restart' as const,
      ),
    }),
  },
)

const SETTINGS = { captureLogMs: 60, captureAnswerMs: 2_000 }

async function runScript(script: readonly Fault[]): Promise<void> {
  const dir = tempDir()
  const target = await openTarget(join(dir.path, 'log'))
  const spoolDisk = new FaultyDisk()
  const open = () =>
    openTestWriter({
      dir: dir.path,
      log: target.log,
      settings: SETTINGS,
      spoolLog: { operations: spoolDisk.operations },
    })
  let writer: TestWriter = await open()
  const acknowledged: string[] = []
  const requests: Promise<void>[] = []
  let n = 0
  try {
    for (const step of script) {
      if (step.kind === 'requests') {
        for (let i = 0; i < step.count; i++) {
          const number = n++
          // Some requests hold more than one event.
          const records = number % 5 === 0 ? [event(number), event(n++)] : [event(number)]
          const names = records.map(({ header }) => Buffer.from(header).toString())
          requests.push(
            writer.writer.write(records).then(
              () => void acknowledged.push(...names),
              () => {},
            ),
          )
        }
        await pause(5)
      } else if (step.kind === 'wait') await pause(step.ms)
      else if (step.kind === 'hang') target.disk.holding = true
      else if (step.kind === 'answer') target.disk.release()
      else if (step.kind === 'slow') target.disk.slowMs = 100
      else if (step.kind === 'quick') target.disk.slowMs = 0
      else if (step.kind === 'spoolFull') spoolDisk.usedRatio = 0.99
      else if (step.kind === 'spoolRoom') spoolDisk.usedRatio = 0.1
      else {
        await Promise.all(requests.splice(0))
        await writer.close(performance.now() + 50)
        spoolDisk.usedRatio = 0.1
        writer = await open()
      }
    }
    target.disk.slowMs = 0
    spoolDisk.usedRatio = 0.1
    target.disk.release()
    await Promise.all(requests)
    expect(await writer.close(performance.now() + 30_000)).toEqual({ unanswered: 0, spooled: 0 })
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
    expect(writer.fatal).toEqual([])
  } finally {
    await target.close()
    dir.remove()
  }
}

test('nothing acknowledged is lost or out of order, whatever the script of faults', async () => {
  const runs = Number(process.env.HEADRACE_TEST_RUNS ?? 25)
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { minLength: 5, maxLength: 30 }), (script) => runScript(script)),
    { numRuns: runs, endOnFailure: true },
  )
})
