/** `headrace project ingestion` as a user has it: a process of its own, on a real Postgres. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgresByUrl, type UrlPostgres } from '../../test/support/postgres.ts'

setDefaultTimeout(60_000)

let postgres: UrlPostgres
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'headrace-cli-'))
  postgres = await startPostgresByUrl()
})
afterAll(async () => {
  await postgres.stop()
  await rm(dir, { recursive: true })
})

async function ingestion(...args: string[]): Promise<{ code: number; options: unknown; said: string }> {
  const cli = Bun.spawn(
    [
      join(import.meta.dir, '../../headrace'),
      'project',
      'ingestion',
      'default',
      '--postgres',
      postgres.url,
      ...args,
    ],
    {
      env: { PATH: process.env.PATH ?? '', HEADRACE_DATA_DIR: '/nonexistent' },
      stdout: 'pipe',
      stderr: 'pipe',
    },
  )
  const [stdout, said] = await Promise.all([new Response(cli.stdout).text(), new Response(cli.stderr).text()])
  return { code: await cli.exited, options: stdout === '' ? undefined : JSON.parse(stdout), said }
}

describe('headrace project ingestion', () => {
  test('shows, changes, replaces and removes the options', async () => {
    expect(await ingestion()).toMatchObject({ code: 0, options: {} })
    const set = await ingestion(
      '--set',
      'anonymizeIps=true',
      'timezone=Europe/Berlin',
      'suppressedProperties=["a=b"]',
    )
    const options = { anonymizeIps: true, timezone: 'Europe/Berlin', suppressedProperties: ['a=b'] }
    expect(set).toMatchObject({ code: 0, options })
    expect((await ingestion('--set', 'timezone=null', '--set', 'cookieless=off')).options).toEqual({
      anonymizeIps: true,
      suppressedProperties: ['a=b'],
      cookieless: 'off',
    })
    const file = join(dir, 'options.json')
    await writeFile(file, '{"personProcessing": "off"}')
    expect((await ingestion('--file', file)).options).toEqual({ personProcessing: 'off' })
    expect((await ingestion()).options).toEqual({ personProcessing: 'off' })
    expect((await ingestion('--clear')).options).toEqual({})
  })

  const refused: [rule: string, args: string[], said: string][] = [
    ['an option that is not known', ['--set', 'anonymise=true'], 'anonymise is not known; known are'],
    [
      'a value that is not allowed',
      ['--set', 'anonymizeIps=yes'],
      'anonymizeIps is "yes"; allowed is true or',
    ],
    ['what is no assignment', ['--set', 'anonymizeIps'], 'not of the form key=value'],
    ['a file that is not there', ['--file', '/nonexistent/x'], 'cannot be read'],
    ['two ways at once', ['--clear', '--set', 'cookieless=off'], 'cannot be used with'],
  ]
  test.each(refused)('%s is refused', async (_, args, said) => {
    const result = await ingestion(...args)
    expect(result.said).toContain(said)
    expect(result.code).not.toBe(0)
    expect((await ingestion()).options).toEqual({})
  })
})
