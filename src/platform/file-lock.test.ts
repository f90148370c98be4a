import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FileLock, isLocked, noteOfHolder } from './file-lock.ts'

setDefaultTimeout(30_000)

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'headrace-lock-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** Locks `path` in a process of its own; when asked, that process starts a child that outlives it. */
async function holder(path: string, withChild = false) {
  const code = `
    import { FileLock } from ${JSON.stringify(join(import.meta.dir, 'file-lock.ts'))}
    const lock = FileLock.try(${JSON.stringify(path)})
    lock.note('mine')
    const child = ${withChild} ? Bun.spawn(['sleep', '60'], { stdio: ['ignore', 'ignore', 'ignore'] }) : undefined
    console.log(child?.pid ?? 0)
    setInterval(() => {}, 1000)`
  const owner = Bun.spawn([process.execPath, '-e', code], { stdout: 'pipe', stderr: 'inherit' })
  const { value } = await owner.stdout.getReader().read()
  return { owner, childPid: Number(new TextDecoder().decode(value)) }
}

describe('file lock', () => {
  test('one holder at a time, within one process too', () => {
    const path = join(dir, 'one')
    const lock = FileLock.try(path)!
    expect(FileLock.try(path)).toBeUndefined()
    expect(isLocked(path)).toBe(true)
    lock.release()
    lock.release()
    expect(isLocked(path)).toBe(false)
    FileLock.try(path)!.release()
  })

  test('a file that does not exist is not locked', () => {
    expect(isLocked(join(dir, 'missing'))).toBe(false)
    expect(noteOfHolder(join(dir, 'missing'))).toBeUndefined()
  })

  test('asking does not lock', () => {
    const path = join(dir, 'asked')
    FileLock.try(path)!.release()
    expect(isLocked(path)).toBe(false)
    const lock = FileLock.try(path)
    expect(lock).toBeDefined()
    lock!.release()
  })

  test('the note is that of the live holder, whole, and gone with it', () => {
    const path = join(dir, 'noted')
    const first = FileLock.try(path)!
    first.note('a longer note')
    expect(noteOfHolder(path)).toBe('a longer note')
    first.note('short')
    expect(noteOfHolder(path)).toBe('short')
    first.release()
    expect(noteOfHolder(path)).toBeUndefined()
  })

  test('waits for the holder, up to its limit', async () => {
    const path = join(dir, 'waited')
    const first = FileLock.try(path)!
    expect(await FileLock.within(path, 50)).toBeUndefined()
    const waiting = FileLock.within(path, 10_000)
    first.release()
    const second = await waiting
    expect(second).toBeDefined()
    second!.release()
  })

  test('a killed holder lets go', async () => {
    const path = join(dir, 'killed')
    const { owner } = await holder(path)
    try {
      expect(noteOfHolder(path)).toBe('mine')
      expect(FileLock.try(path)).toBeUndefined()
    } finally {
      owner.kill('SIGKILL')
      await owner.exited
    }
    FileLock.try(path)!.release()
  })

  test('a child that outlives the holder does not keep the lock', async () => {
    const path = join(dir, 'inherited')
    const { owner, childPid } = await holder(path, true)
    try {
      expect(childPid).toBeGreaterThan(0)
      owner.kill('SIGKILL')
      await owner.exited
      process.kill(childPid, 0)
      expect(isLocked(path)).toBe(false)
    } finally {
      owner.kill('SIGKILL')
      process.kill(childPid, 'SIGKILL')
    }
  })
})
