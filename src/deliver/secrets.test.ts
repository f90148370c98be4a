import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { maskSecret, openSecretBox } from './secrets.ts'

const dir = mkdtempSync(join(tmpdir(), 'headrace-secrets-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const ID = '01890000-0000-7000-8000-00000000000a'
const KEY = Buffer.alloc(32, 7).toString('base64')

test('what was sealed opens with the same key, for the same destination, and nothing else', async () => {
  const box = openSecretBox(KEY, '')
  const sealed = await box.seal(ID, { token: 'very secret' })
  expect(sealed).not.toContain('secret')
  expect(await box.open(ID, sealed)).toEqual({ token: 'very secret' })
  expect(await box.seal(ID, { token: 'very secret' })).not.toBe(sealed)
  await expect(box.open(ID.replace('a', 'b'), sealed)).rejects.toThrow('are damaged')
  await expect(box.open(ID, `${sealed.slice(0, -4)}AAAA`)).rejects.toThrow('are damaged')
  const other = openSecretBox(Buffer.alloc(32, 8).toString('base64'), '')
  await expect(other.open(ID, sealed)).rejects.toThrow('give every process the same HEADRACE_SECRET_KEY')
})

test('without a setting the key is a file that is made once, for its owner only', async () => {
  const file = join(dir, 'sub', 'secret.key')
  const sealed = await openSecretBox('', file).seal(ID, { a: 'b' })
  expect(await openSecretBox('', file).open(ID, sealed)).toEqual({ a: 'b' })
  expect(statSync(file).mode & 0o777).toBe(0o600)
})

test('a key of another length is refused', () => {
  expect(() => openSecretBox('c2hvcnQ=', '')).toThrow('HEADRACE_SECRET_KEY does not hold 32 bytes')
})

test('people see the end of a long secret, and nothing of a short one', () => {
  expect(maskSecret('whsec_abcdefgh')).toBe('••••efgh')
  expect(maskSecret('short')).toBe('••••')
})
