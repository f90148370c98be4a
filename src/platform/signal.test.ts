import { expect, test } from 'bun:test'
import { getEventListeners } from 'node:events'
import { Signal } from './signal.ts'

test('all that wait are woken, once, by a notice, by time, or by an abort', async () => {
  const signal = new Signal()
  const stop = new AbortController()
  const woken: string[] = []
  const wait = (name: string, ms?: number) => signal.wait(stop.signal, ms).then(() => woken.push(name))
  const first = [wait('a'), wait('b', 60_000)]
  signal.notify()
  await Promise.all(first)
  expect(woken).toEqual(['a', 'b'])
  await wait('time', 1)
  await wait('no time', 0)
  const last = wait('abort')
  stop.abort()
  await last
  await wait('aborted before')
  expect(woken).toEqual(['a', 'b', 'time', 'no time', 'abort', 'aborted before'])
})

test('however often one waits, nothing is left on the abort signal', async () => {
  const signal = new Signal()
  const stop = new AbortController()
  for (let i = 0; i < 1_000; i++) {
    const woken = signal.wait(stop.signal, 60_000)
    signal.notify()
    await woken
  }
  expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0)
})
