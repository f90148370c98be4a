/**
 * Nothing that is tracked may hold for one machine only: no absolute path of somebody's home or work folder, no name
 * of a package registry (the lockfile follows whichever one npm is set to).
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'

const TEXT_BYTES_MAX = 5_000_000
const RULES = [
  {
    says: 'an absolute path of one machine',
    pattern: /(?<![\w.$}/-])\/(?:root|work|home\/\w+|Users\/\w+|tmp\/\w+)\/[\w.-]+/,
  },
  {
    says: 'the name of a package registry',
    pattern:
      /\b(?:registry\.(?:npmjs|yarnpkg|npmmirror)|(?:files\.)?pythonhosted|pypi|repo1?\.maven|proxy\.golang|deb\.debian)\.(?:org|com|io)\b/,
  },
  {
    says: 'a download address in the lockfile',
    pattern: /"resolved": "https?:/,
    only: /(^|\/)package-lock\.json$/,
  },
]

const files = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' }).split('\0').filter(Boolean)
let findings = 0
for (const file of files) {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  if (size === 0 || size > TEXT_BYTES_MAX) continue
  const text = readFileSync(file, 'utf8')
  if (text.includes('\0')) continue
  text.split('\n').forEach((line, index) => {
    for (const { says, pattern, only } of RULES) {
      const match = (!only || only.test(file)) && pattern.exec(line)
      if (!match) continue
      findings++
      console.log(`${file}:${index + 1}: ${says}: ${match[0]}`)
    }
  })
}
process.exit(findings === 0 ? 0 : 1)
