/**
 * No request within the default limits costs capture more than 50 ms of CPU before the log gets its events. Held at
 * twice that, for the best of five rounds, because this machine has other things to do while tests run; what the
 * limits keep out costs ten times as much.
 */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { cpuMsOf, digest, worstBodies } from './worst-bodies.ts'

const CPU_MS_MAX = 50
const BUSY_MACHINE = 2
const ROUNDS = 5
setDefaultTimeout(120_000)

test('each of the worst bodies stays within the CPU bound', async () => {
  // As in a process that has served for a while: compiled.
  for (const body of worstBodies()) await digest(body)
  const over: string[] = []
  for (const body of worstBodies()) {
    const { ms, result } = await cpuMsOf(body, ROUNDS)
    if (ms > CPU_MS_MAX * BUSY_MACHINE) over.push(`${body.name}: ${ms} ms, ${result}`)
  }
  expect(over).toEqual([])
})
