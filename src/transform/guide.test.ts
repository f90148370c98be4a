/** The guide's files are a set whose cases pass. */
import { expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { runCases } from './cases.ts'
import { readSetFolder } from './folder.ts'

test('the set of the guide does what its cases say', async () => {
  const guide = readFileSync(new URL('../../docs/guides/transformations.md', import.meta.url), 'utf8')
  const files = [...guide.matchAll(/^```(?:json|ts) (\S+)\n(.*?)^```$/gms)]
  expect(files.map(([, name]) => name)).toEqual(['transformations.json', 'plans.ts', 'cases/plans.json'])
  const folder = mkdtempSync(join(tmpdir(), 'headrace-guide-'))
  try {
    for (const [, name, text] of files) {
      mkdirSync(dirname(join(folder, name!)), { recursive: true })
      writeFileSync(join(folder, name!), text!)
    }
    const { definition, cases } = readSetFolder(folder)
    const results = await runCases(definition, cases)
    expect(results.map(({ name, differences }) => [name, differences])).toEqual(
      cases.map(({ name }) => [name, []]),
    )
    expect(cases).toHaveLength(4)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
