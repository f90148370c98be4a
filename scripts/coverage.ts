/** Line coverage out of lcov files. A file that several suites load counts each line once. */
import { existsSync, readFileSync } from 'node:fs'
import { isAbsolute, relative } from 'node:path'

/** Line number → times run. */
export type FileCoverage = { file: string; lines: Map<number, number> }

export function readLcov(path: string): FileCoverage[] {
  if (!existsSync(path)) return []
  const files: FileCoverage[] = []
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line.startsWith('SF:')) {
      const name = line.slice(3)
      files.push({ file: isAbsolute(name) ? relative(process.cwd(), name) : name, lines: new Map() })
    } else if (line.startsWith('DA:')) {
      const [number, count] = line.slice(3).split(',').map(Number)
      files.at(-1)?.lines.set(number ?? 0, count ?? 0)
    }
  }
  return files
}

export type Coverage = {
  lines: number
  hit: number
  /** 0 to 100; 0 when nothing was measured, so that an empty run passes no gate. */
  percent: number
  /** Least covered first. */
  worst: { file: string; percent: number }[]
}

export function coverageOf(files: FileCoverage[]): Coverage {
  const merged = new Map<string, Map<number, number>>()
  for (const { file, lines } of files) {
    const sum = merged.get(file) ?? new Map<number, number>()
    for (const [number, count] of lines) sum.set(number, (sum.get(number) ?? 0) + count)
    merged.set(file, sum)
  }
  let lines = 0
  let hit = 0
  const worst: Coverage['worst'] = []
  for (const [file, counts] of merged) {
    const run = [...counts.values()].filter((count) => count > 0).length
    lines += counts.size
    hit += run
    worst.push({ file, percent: percentOf(run, counts.size) })
  }
  worst.sort((a, b) => a.percent - b.percent)
  return { lines, hit, percent: lines === 0 ? 0 : percentOf(hit, lines), worst }
}

function percentOf(part: number, whole: number): number {
  return whole === 0 ? 100 : (100 * part) / whole
}
