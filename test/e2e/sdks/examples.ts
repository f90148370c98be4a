/** Takes the examples out of a guide and runs them as they stand there. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tool } from '../../support/tools.ts'

const HERE = import.meta.dirname
const ROOT = join(HERE, '../../..')

/** The first block of `language` in the guide. */
export function exampleOf(guide: string, language: string): string {
  const text = readFileSync(join(ROOT, 'docs/guides', guide), 'utf8')
  const [, block] = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms').exec(text) ?? []
  if (block === undefined) throw new Error(`${guide} has no example in ${language}`)
  return block
}

/** Runs a whole program; returns what it wrote to standard error. */
export async function runExample(language: string, code: string): Promise<string> {
  // Inside of our own folder, so that packages are found as anywhere in a project.
  const dir = mkdtempSync(join(language === 'go' ? tmpdir() : join(ROOT, '.cache'), 'example-'))
  try {
    const [file, command] = programs(dir)[language]!
    writeFileSync(join(dir, file), code)
    if (language === 'go')
      for (const name of ['go.mod', 'go.sum']) cpSync(join(HERE, 'go', name), join(dir, name))
    const env = { ...process.env, CGO_ENABLED: '0' }
    const child = Bun.spawn(command(), { cwd: dir, env, stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' })
    const said = await new Response(child.stderr).text()
    return (await child.exited) === 0 ? said : `ended with ${child.exitCode}: ${said}`
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function programs(dir: string): Record<string, [file: string, command: () => string[]]> {
  return {
    js: ['example.mjs', () => [process.execPath, join(dir, 'example.mjs')]],
    python: ['example.py', () => [tool('python'), join(dir, 'example.py')]],
    go: ['main.go', () => [tool('go'), 'run', '.']],
  }
}
