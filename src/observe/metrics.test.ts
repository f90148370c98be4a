import { expect, test } from 'bun:test'
import { metricsText, tallies } from './metrics.ts'

test('tallies are told when metrics are read, and keep counting from there', async () => {
  const bytes = tallies('headrace_test_bytes_total', 'Bytes.', ['kind'])
  const read = bytes.of({ kind: 'read' })
  const written = bytes.of({ kind: 'written' })
  read.add(3)
  read.add(4)
  expect(await metricsText()).toContain('headrace_test_bytes_total{kind="read"} 7')
  read.add(1)
  written.add(2)
  const text = await metricsText()
  expect(text).toContain('headrace_test_bytes_total{kind="read"} 8')
  expect(text).toContain('headrace_test_bytes_total{kind="written"} 2')
})
