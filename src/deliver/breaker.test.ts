import { expect, test } from 'bun:test'
import { Breaker } from './breaker.ts'

test('opens after five failures in a row, lets one probe in after a pause, closes when it ends well', () => {
  const breaker = new Breaker(() => 1)
  for (let i = 0; i < 4; i++) breaker.failed(0, false)
  expect(breaker.enter(0)).toBe('go')
  breaker.failed(0, false)
  expect(breaker.open).toBe(true)
  expect(breaker.enter(0)).toBe(1_000)
  expect(breaker.enter(1_000)).toBe('probe')
  expect(breaker.enter(1_000)).toBeNumber()
  breaker.failed(1_000, false)
  expect(breaker.enter(2_000)).toBe(1_000)
  expect(breaker.enter(3_000)).toBe('probe')
  breaker.succeeded()
  expect(breaker.enter(3_000)).toBe('go')
})

test('a success in between keeps it closed, until half of them fail', () => {
  const breaker = new Breaker()
  for (let i = 0; i < 50; i++) {
    breaker.failed(0, false)
    for (let j = 0; j < 2; j++) breaker.succeeded()
  }
  expect(breaker.open).toBe(false)
  for (let i = 0; i < 30 && !breaker.open; i++) {
    for (let j = 0; j < 4; j++) breaker.failed(0, false)
    if (!breaker.open) breaker.succeeded()
  }
  expect(breaker.open).toBe(true)
})

test('who asks to wait is left alone for so long, an hour at most', () => {
  const breaker = new Breaker(() => 0)
  breaker.failed(0, true, 90_000)
  expect(breaker.waitMs(0)).toBe(90_000)
  const patient = new Breaker(() => 0)
  patient.failed(0, true, 86_400_000)
  expect(patient.waitMs(0)).toBe(3_600_000)
})

test('a probe that was not sent lets the next one in', () => {
  const breaker = new Breaker()
  breaker.failed(0, true)
  expect(breaker.enter(10_000)).toBe('probe')
  breaker.giveBack()
  expect(breaker.enter(10_000)).toBe('probe')
})
