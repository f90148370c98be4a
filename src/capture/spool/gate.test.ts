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
  expect(await gate.pass()).toBe(true)
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

test('who waits gives up after its time, and is not inside then', async () => {
  const gate = new Gate()
  await gate.shut()
  expect(gate.enter()).toBe(false)
  expect(await gate.pass(5)).toBe(false)
  // Resolves at once, since nobody is inside.
  await gate.shut()
  gate.open()
  expect(gate.enter()).toBe(true)
})

test('opened and shut again within a moment: who went in is waited for, and who did not stays out', async () => {
  for (let turns = 0; turns < 8; turns++) {
    const gate = new Gate()
    await gate.shut()
    const order: string[] = []
    const passed = gate.pass().then(() => order.push('in'))
    gate.open()
    for (let turn = 0; turn < turns; turn++) await null
    const shut = gate.shut().then(() => order.push('shut'))
    await Promise.race([passed, shut])
    await new Promise((resolve) => setImmediate(resolve))
    expect(order).toHaveLength(1)
    if (order[0] === 'in') gate.leave()
    else gate.open()
    await Promise.all([passed, shut])
  }
})
