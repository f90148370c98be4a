import { expect, test } from 'bun:test'
import { EndOfTurn } from './end-of-turn.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

test('what comes in one turn is worked on in order, at its end', async () => {
  const done: number[] = []
  const queue = new EndOfTurn<number>((item) => done.push(item))
  queue.add(1)
  await Promise.resolve()
  queue.add(2)
  expect(done).toEqual([])
  await turn()
  expect(done).toEqual([1, 2])
})

test('what comes while the others are worked on waits for the next end', async () => {
  const done: number[] = []
  const queue = new EndOfTurn<number>((item) => {
    done.push(item)
    if (item < 3) queue.add(item + 10)
  })
  queue.add(1)
  queue.add(2)
  await turn()
  expect(done).toEqual([1, 2])
  await turn()
  expect(done).toEqual([1, 2, 11, 12])
  queue.add(5)
  await turn()
  expect(done).toEqual([1, 2, 11, 12, 5])
})
