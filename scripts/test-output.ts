/**
 * What the output of `bun test` says: how many tests passed and failed, and which failed, with what was printed about each.
 * In: the text of one run, with or without colours. Out: numbers and texts; nothing is printed or run here.
 */
export type Tally = { passed: number; failed: number; skipped: number }

/** `file` is as bun names it, from the root; `said`: what was printed before the verdict, at most `SAID_LINES_MAX` lines. */
export type Failure = { file: string; name: string; said: string[] }

const SAID_LINES_MAX = 40

/** Counted as an error; what it was is printed behind this line, and so before the next verdict. */
const UNHANDLED = '# Unhandled error between tests'

/** ` 12 pass`, ` 1 skip`, ` 0 fail`, ` 1 error`: the last of each, for a test may print such a line too. */
export function readSummary(text: string): Tally {
  const colourless = Bun.stripANSI(text)
  const last = (word: string) => {
    const found = [...colourless.matchAll(new RegExp(`^ *(\\d+) ${word}s?$`, 'gm'))]
    return Number(found.at(-1)?.[1] ?? 0)
  }
  return { passed: last('pass'), failed: last('fail') + last('error'), skipped: last('skip') + last('todo') }
}

/** The failed tests in the order of the run. What a test printed stands before its verdict; at its end bun lists them again. */
export function readFailures(text: string): Failure[] {
  const failures: Failure[] = []
  let file = ''
  let said: string[] = []
  for (const line of Bun.stripANSI(text).split('\n')) {
    const heading = /^(\S+\.test\.ts):$/.exec(line)
    const verdict = /^\((pass|fail|skip|todo)\) (.*?)(?: \[[\d.]+ms\])?$/.exec(line)
    if (/^\d+ tests? failed:$/.test(line)) break
    if (heading) file = heading[1] ?? ''
    else if (line === UNHANDLED)
      failures.push({ file, name: 'an unhandled error between its tests', said: [] })
    else if (!verdict) said.push(line)
    else if (verdict[1] === 'fail')
      failures.push({ file, name: verdict[2] ?? '', said: said.slice(-SAID_LINES_MAX) })
    if (heading || verdict) said = []
  }
  return failures
}
