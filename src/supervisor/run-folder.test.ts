import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listRoleSockets, makeRunFolder, roleSocket, runFolder } from './run-folder.ts'

const base = mkdtempSync(join(tmpdir(), 'hr-run-'))
const made: string[] = [base]
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true })
})

const rows: [rule: string, dataDir: string, inside: boolean][] = [
  ['a usual folder has its sockets inside', '/var/lib/headrace', true],
  ['a deep one has them in the temporary folder', `/srv/${'deep/'.repeat(20)}data`, false],
  ['the length counts in bytes', `/srv/${'ü'.repeat(40)}`, false],
]
test.each(rows)('%s', (_, dataDir, inside) => {
  expect(runFolder(dataDir).startsWith(dataDir)).toBe(inside)
  expect(Buffer.byteLength(roleSocket(dataDir, 'warehouse', 4_194_304))).toBeLessThanOrEqual(103)
})

test('two deep folders do not share sockets', () => {
  const deep = '/x'.repeat(60)
  expect(runFolder(`${deep}/a`)).not.toBe(runFolder(`${deep}/b`))
})

test('the folder is its owner’s alone', () => {
  expect(statSync(makeRunFolder(join(base, 'own'))).mode & 0o777).toBe(0o700)
})

test('sockets of the living are found with their roles, other files are not', async () => {
  const dataDir = join(base, 'list')
  const folder = makeRunFolder(dataDir)
  const dead = Bun.spawn(['true'])
  await dead.exited
  const alive = `load-${process.pid}.sock`
  const names = ['ingest.sock', alive, `load-${dead.pid}.sock`, 'other.sock', 'ingest.pid']
  for (const name of names) writeFileSync(join(folder, name), '')
  expect(listRoleSockets(dataDir)).toEqual([
    { role: 'ingest', path: join(folder, 'ingest.sock'), pid: undefined },
    { role: 'load', path: join(folder, alive), pid: process.pid },
  ])
  expect(listRoleSockets(join(base, 'none'))).toEqual([])
})
