import { expect, test } from 'bun:test'
import { Gate } from './gate.ts'

test('shutting waits for the group inside, and holds the next one until the gate opens', async () => {
  const gate = new Gate()
  gate.enter()
  const order: string[] = []
  const shut = gate.shut().then(() => order.push('shut'))
  const passed = gate.pass().then(() => order.push('passed'))
  gate.leave()
  await shut
  expect(order).toEqual(['shut'])
  gate.open()
  await passed
  expect(order).toEqual(['shut', 'passed'])
})

test('a group that stays inside for longer than the gate is shut keeps nobody waiting', async () => {
  const gate = new Gate()
  gate.enter()
  const shut = gate.shut(1)
  await gate.pass()
  gate.leave()
  gate.enter()
  await shut
  expect(gate.isShut).toBe(false)
})

test('shut anew without an end, it does not open when the time of before is over', async () => {
  const gate = new Gate()
  await gate.shut(5)
  await gate.shut()
  const after = new Gate()
  await after.shut(10)
  await after.pass()
  expect(gate.isShut).toBe(true)
})
