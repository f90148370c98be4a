/** Whatever happens to the log, the spool's disk and the process, what was acknowledged arrives, in order. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import fc from 'fast-check'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { LogRecord } from '../../log/index.ts'
import { metricsText } from '../../observe/index.ts'
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

/** Reached while requests keep coming. */
async function waitForDirect(): Promise<void> {
  const isDirect = async () => (await metricsText()).includes('\nheadrace_capture_spool_state 0\n')
  await waitFor('the direct way', isDirect, 30_000)
}

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
  const send = (records: LogRecord[]) => {
    const names = records.map(({ header }) => Buffer.from(header).toString())
    return writer.writer.write(records).then(
      () => void acknowledged.push(...names),
      () => {},
    )
  }
  // Some requests come all the time, so that the way back to the log is taken under load.
  let restarting: Promise<unknown> | undefined
  let loading = true
  const load = async () => {
    while (loading) {
      if (restarting) await restarting
      else await Promise.all([send([event(n++)]), pause(1)])
    }
  }
  const steady = Promise.all([load(), load(), load()])
  try {
    for (const step of script) {
      if (step.kind === 'requests') {
        for (let i = 0; i < step.count; i++) {
          const number = n++
          // Some requests hold more than one event.
          const records = number % 5 === 0 ? [event(number), event(n++)] : [event(number)]
          requests.push(send(records))
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
        let over = () => {}
        restarting = new Promise<void>((resolve) => {
          over = resolve
        })
        await Promise.all(requests.splice(0))
        await writer.close(performance.now() + 3_000)
        spoolDisk.usedRatio = 0.1
        writer = await open()
        restarting = undefined
        over()
      }
    }
    target.disk.slowMs = 0
    spoolDisk.usedRatio = 0.1
    target.disk.release()
    await waitForDirect()
    loading = false
    await Promise.all([steady, ...requests])
    expect(await writer.close(performance.now() + 30_000)).toEqual({ unanswered: 0, spooled: 0 })
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
    expect(writer.fatal).toEqual([])
  } finally {
    loading = false
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
