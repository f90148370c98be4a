import { expect, test } from 'bun:test'
import { Throttle } from './throttle.ts'

const never = new AbortController().signal

test('as many at once as the width, which grows by success and is halved by failure', async () => {
  const throttle = new Throttle(8, undefined)
  for (let i = 0; i < 4; i++) expect(throttle.enter(never)).toBe(true)
  const fifth = throttle.enter(never)
  expect(fifth).toBeInstanceOf(Promise)
  throttle.leave()
  expect(await fifth).toBe(true)
  for (let i = 0; i < 100; i++) throttle.succeeded()
  expect(throttle.allowed).toBe(8)
  throttle.failed()
  expect(throttle.allowed).toBe(4)
  for (let i = 0; i < 10; i++) throttle.failed()
  expect(throttle.allowed).toBe(1)
})

test('those who wait come in their order, and one that gives up takes no turn', async () => {
  const throttle = new Throttle(1, undefined)
  const order: number[] = []
  expect(throttle.enter(never)).toBe(true)
  const leaving = new AbortController()
  const waiting = [1, 2, 3].map(async (n) => {
    if (await throttle.enter(n === 2 ? leaving.signal : never)) order.push(n)
    else return
    throttle.leave()
  })
  leaving.abort()
  throttle.leave()
  await Promise.all(waiting)
  expect(order).toEqual([1, 3])
  expect(throttle.enter(never)).toBe(true)
})

test('no more a second than the rate allows', () => {
  let nowMs = 0
  const throttle = new Throttle(100, 2, () => nowMs)
  throttle.limit(100, 2)
  const enter = () => {
    const entered = throttle.enter(AbortSignal.abort())
    if (entered === true) throttle.leave()
    return entered === true
  }
  expect([enter(), enter(), enter()]).toEqual([true, true, false])
  nowMs += 500
  expect([enter(), enter()]).toEqual([true, false])
})
