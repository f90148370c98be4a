import { expect, test } from 'bun:test'
import { ProgressBar } from './progress-bar.ts'

const terminal = (isTTY: boolean) => {
  const written: string[] = []
  return { isTTY, written, write: (text: string) => written.push(text) }
}

test('shows how far it is ten times a second at most, and gives the line back', () => {
  const tty = terminal(true)
  let nowMs = 0
  const bar = new ProgressBar(tty, () => nowMs)
  bar.show(500, 2_000, 'offsets')
  nowMs = 50
  bar.show(600, 2_000, 'offsets')
  nowMs = 100
  bar.show(2_000, 2_000, 'offsets')
  bar.clear()
  bar.clear()
  expect(tty.written).toEqual([
    `\r\x1b[K${'█'.repeat(8)}${'░'.repeat(22)} 25 %  500 of 2,000 offsets`,
    `\r\x1b[K${'█'.repeat(30)} 100 %  2,000 of 2,000 offsets`,
    '\r\x1b[K',
  ])
})

test('where no terminal is, nothing is written', () => {
  const pipe = terminal(false)
  const bar = new ProgressBar(pipe)
  bar.show(1, 0, 'offsets')
  bar.clear()
  expect(pipe.written).toEqual([])
})
