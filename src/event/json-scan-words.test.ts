/** All tests of the scanner once more with the loops that need no SIMD, as on an x86 CPU without AVX. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

setDefaultTimeout(120_000)

const WITHOUT_SIMD = { ...process.env, BUN_JSC_useWasmSIMD: '0' }

function run(...args: string[]): { said: string; code: number } {
  const cwd = join(import.meta.dirname, '..', '..')
  const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, ...args], { cwd, env: WITHOUT_SIMD })
  return { said: `${stdout}${stderr}`, code: exitCode }
}

test('where WebAssembly has no SIMD, the loops work by words', () => {
  const simd = join(import.meta.dirname, 'assembly', 'json-scan.simd.wasm')
  expect(WebAssembly.validate(readFileSync(simd))).toBe(true)
  const script = `console.log(WebAssembly.validate(require('fs').readFileSync(process.argv[1])))`
  expect(run('-e', script, simd).said.trim()).toBe('false')

  const { said, code } = run('test', join(import.meta.dirname, 'json-scan.test.ts'))
  expect(said).toContain('\n 0 fail')
  expect(code).toBe(0)
})
