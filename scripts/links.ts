/**
 * Every place in the docs that something points to exists: relative links and anchors of tracked Markdown files, and
 * `docs/….md#anchor` wherever the sources name one (log lines, refusals, comments).
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

const LINK = /\[[^\]]*\]\(([^)\s]+)\)/g
const IN_SOURCE = /\bdocs\/[\w/.-]+\.md(?:#[\w-]+)?/g

/** Anchors of the headings, as the forges make them: small letters, no punctuation, hyphens; a number when it repeats. */
export function anchorsOf(markdown: string): Set<string> {
  const anchors = new Map<string, number>()
  for (const [, heading] of withoutCode(markdown).matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)) {
    const plain = heading!.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const anchor = plain.replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-')
    const times = anchors.get(anchor) ?? 0
    anchors.set(anchor, times + 1)
    if (times > 0) anchors.set(`${anchor}-${times}`, 1)
  }
  return new Set(anchors.keys())
}

/** What one file points to: paths from the root, with `#anchor` when there is one. */
export function pointersOf(file: string, text: string): string[] {
  if (!file.endsWith('.md')) return [...text.matchAll(IN_SOURCE)].map(([pointer]) => pointer)
  return [...withoutCode(text).matchAll(LINK)].flatMap(([, link]) => {
    const to = link!
    if (/^[a-z][a-z+.-]*:/i.test(to)) return []
    return [to.startsWith('#') ? `${file}${to}` : normalize(join(dirname(file), to))]
  })
}

/** Why nobody can follow the pointer, or undefined. `read` gives a file's text, undefined when there is none. */
export function brokenBecause(
  pointer: string,
  read: (path: string) => string | undefined,
): string | undefined {
  const [path = '', anchor] = pointer.split('#')
  const text = read(path)
  if (text === undefined) return 'there is no such file'
  if (anchor && path.endsWith('.md') && !anchorsOf(text).has(anchor)) return 'there is no such heading'
  return undefined
}

function withoutCode(markdown: string): string {
  return markdown
    .replace(/^(`{3,}|~{3,})[\s\S]*?^\1/gm, '')
    .replace(/`[^`\n]*`/g, (code) => code.slice(1, -1).replace(/[[\]()]/g, ''))
}

function main(): void {
  const files = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' }).split('\0')
  const chosen = files.filter(
    (file) => /\.(md|ts|mjs|cjs|sql)$/.test(file) && !/\.test\.(ts|mjs)$/.test(file),
  )
  const read = (path: string) => {
    if (!existsSync(path)) return undefined
    return path.endsWith('.md') ? readFileSync(path, 'utf8') : ''
  }
  let broken = 0
  for (const file of chosen.filter((name) => existsSync(name))) {
    for (const pointer of pointersOf(file, readFileSync(file, 'utf8'))) {
      const reason = brokenBecause(pointer, read)
      if (!reason) continue
      broken++
      console.log(`${file}: ${pointer}: ${reason}`)
    }
  }
  process.exit(broken === 0 ? 0 : 1)
}

if (import.meta.main) main()
