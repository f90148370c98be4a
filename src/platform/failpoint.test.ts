import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { FAILPOINTS } from './failpoint.ts'

const MODULE = join(import.meta.dir, 'failpoint.ts')

function start(program: string, env: Record<string, string>) {
  return Bun.spawn([process.execPath, '-e', program], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
}

/** What it says until it has ended. */
async function outputOf(child: ReturnType<typeof start>) {
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ])
  await child.exited
  return { stdout, stderr }
}

/** Runs a program to its end, and lets it go on whenever it stands still. */
async function runLetGo(program: string, plan: string) {
  const child = start(program, { HEADRACE_TEST_FAILPOINT: plan })
  const letGo = setInterval(() => child.kill('SIGCONT'), 100)
  const { stdout, stderr } = await outputOf(child)
  clearInterval(letGo)
  return { child, stdout, stderr }
}

/** A process that passes a place `calls` times and then waits a moment. */
async function pass(name: string, env: Record<string, string>, calls = 1_000) {
  const program = `
    const { failpoint } = await import(${JSON.stringify(MODULE)})
    for (let i = 0; i < ${calls}; i++) {
      if (i > 0) console.log(i)
      failpoint(${JSON.stringify(name)})
    }
    await Bun.sleep(100)`
  const child = start(program, env)
  const { stdout, stderr } = await outputOf(child)
  return { signal: child.signalCode, passed: stdout.split('\n').length, stderr }
}

const NAMES = Object.values(FAILPOINTS).flatMap((places) => Object.keys(places))

test.each(NAMES)('%s kills the process that passes it, and names itself', async (name) => {
  const { signal, stderr } = await pass(name, { HEADRACE_TEST_FAILPOINT: `${name}:1` }, 1)
  expect(signal).toBe('SIGKILL')
  expect(stderr).toBe(`failpoint ${name}\n`)
})

test('another place, a probability of 0, an empty plan and no plan kill nothing', async () => {
  for (const plan of ['parsed:1', 'acked:0', '']) {
    expect((await pass('acked', { HEADRACE_TEST_FAILPOINT: plan })).signal).toBeNull()
  }
  expect((await pass('acked', {})).signal).toBeNull()
})

test('the same seed kills at the same call, another one at another', async () => {
  const plan = { HEADRACE_TEST_FAILPOINT: 'acked:0.01' }
  const of = async (seed: number) =>
    (await pass('acked', { ...plan, HEADRACE_TEST_SEED: String(seed) }, 5_000)).passed
  expect(await of(7)).toBe(await of(7))
  expect(new Set([await of(7), await of(8), await of(9)]).size).toBeGreaterThan(1)
})

test('a place can stop the process instead, once; let go, it goes on as if nothing had been', async () => {
  const program = `
    const { failpoint } = await import(${JSON.stringify(MODULE)})
    for (let i = 0; i < 3; i++) failpoint('acked')
    console.log('went on')`
  const { child, stdout, stderr } = await runLetGo(program, 'acked:1:stop')
  expect(await child.exited).toBe(0)
  expect(stderr).toBe('stopped at acked\n')
  expect(stdout).toBe('went on\n')
})

test('a place with `then` kills only a process that has stood still', async () => {
  const program = `
    const { failpoint } = await import(${JSON.stringify(MODULE)})
    for (const name of ['locked', 'acked', 'locked']) {
      console.log(name)
      failpoint(name)
    }`
  const { child, stdout, stderr } = await runLetGo(program, 'acked:1:stop,locked:1:then')
  expect(child.signalCode).toBe('SIGKILL')
  expect(stderr).toBe('stopped at acked\nfailpoint locked\n')
  expect(stdout).toBe('locked\nacked\nlocked\n')
})

test('a plan that cannot be read ends the process with one sentence', async () => {
  for (const plan of ['somewhere:1', 'acked', 'acked:2', 'acked:1:go']) {
    const { signal, stderr } = await pass('acked', { HEADRACE_TEST_FAILPOINT: plan })
    expect(signal).toBeNull()
    expect(stderr).toContain(`HEADRACE_TEST_FAILPOINT has "${plan}"; allowed is name:probability`)
  }
})
