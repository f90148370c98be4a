import { afterAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HeadraceError } from '../event/index.ts'
import { dataFolderOwner, lockDataFolder } from './data-lock.ts'

setDefaultTimeout(30_000)

const dir = mkdtempSync(join(tmpdir(), 'hr-lock-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

test('the second start is refused with the pid of the first, until that lets go', () => {
  expect(dataFolderOwner(dir)).toBeUndefined()
  const lock = lockDataFolder(dir)
  expect(dataFolderOwner(dir)).toBe(process.pid)
  let refusal: unknown
  try {
    lockDataFolder(dir)
  } catch (error) {
    refusal = error
  }
  expect(refusal).toBeInstanceOf(HeadraceError)
  expect((refusal as HeadraceError).code).toBe('HR_SUPERVISOR_ALREADY_RUNNING')
  expect((refusal as HeadraceError).message).toContain(`process ${process.pid} already runs`)
  lock.release()
  expect(dataFolderOwner(dir)).toBeUndefined()
  lockDataFolder(dir).release()
})

test('a killed owner leaves the folder free', async () => {
  const code = `import { lockDataFolder } from ${JSON.stringify(join(import.meta.dir, 'data-lock.ts'))}
    lockDataFolder(${JSON.stringify(dir)}); console.log('locked'); setInterval(() => {}, 1000)`
  const owner = Bun.spawn([process.execPath, '-e', code], { stdout: 'pipe' })
  try {
    await owner.stdout.getReader().read()
    expect(dataFolderOwner(dir)).toBe(owner.pid)
    owner.kill('SIGKILL')
    await owner.exited
    lockDataFolder(dir).release()
  } finally {
    owner.kill('SIGKILL')
  }
})
