import { expect, test } from 'bun:test'
import { denseRows } from './dense-rows.ts'

test('a result with leading holes, as after a connection that died among its rows, is read from its end', () => {
  const holed: string[] & { count?: number } = new Array(3)
  holed[3] = 'a'
  holed[4] = 'b'
  holed.count = 2
  expect([...denseRows(holed)]).toEqual(['a', 'b'])
  const empty: string[] & { count?: number } = new Array(3)
  empty.count = 0
  expect(denseRows(empty)).toHaveLength(0)
  const whole = Object.assign(['a'], { count: 1 })
  expect(denseRows(whole)).toBe(whole)
})
