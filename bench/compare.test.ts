import { describe, expect, test } from 'bun:test'
import { type Accepted, accept, compare, measureYardstick } from './compare.ts'
import { bottleneckOf, type Figures, figureCells, quantile, table, usageOf } from './measure.ts'

const figures = (name: string, eventsPerSecond: number, us: number): Figures => ({
  name,
  eventsPerSecond,
  cpuUs: { a: us / 2, b: us / 2 },
  bottleneck: 'disk',
})
const accepted: Accepted = {
  takenAt: '2026-11-23',
  machine: 'm',
  yardstickUs: 10,
  figures: [figures('capture', 1_000, 20)],
}

describe('compare', () => {
  test.each([
    ['the same', 10, 1_000, 20, 1, false],
    ['a machine half as fast', 20, 700, 40, 1, false],
    ['dearer', 10, 1_000, 27, 1.35, true],
    ['a little dearer', 10, 1_000, 25, 1.25, false],
    ['cheap in microseconds, but the machine is faster', 5, 1_000, 15, 1.5, true],
    ['half the rate', 10, 500, 20, 1, true],
  ])('%s', (_, yardstickUs, rate, us, cpuRatio, worse) => {
    const [verdict] = compare(accepted, { yardstickUs, figures: [figures('capture', rate, us)] })
    expect(verdict!.cpuRatio).toBeCloseTo(cpuRatio)
    expect(verdict!.rateRatio).toBeCloseTo(rate / 1_000)
    expect(verdict!.worse).toBe(worse)
  })

  test('what was never accepted is not worse', () => {
    expect(compare(accepted, { yardstickUs: 10, figures: [figures('new', 1, 1)] })[0]).toEqual({
      name: 'new',
      cpuRatio: undefined,
      rateRatio: undefined,
      worse: false,
    })
  })

  test('accepting one keeps the others, in the new yardstick', () => {
    const now = { ...accepted, yardstickUs: 20, figures: [figures('load', 5, 8)] }
    const both = accept(accepted, now)
    expect(both.figures.map(({ name }) => name)).toEqual(['capture', 'load'])
    expect(compare(accepted, both)[0]!.cpuRatio).toBeCloseTo(1)
  })

  test('the yardstick takes time', () => expect(measureYardstick()).toBeGreaterThan(0))
})

describe('measure', () => {
  test('bottleneck', () => {
    const cores = navigator.hardwareConcurrency
    expect(bottleneckOf({ a: 0.9e6 }, 1, 'disk')).toBe(
      cores > 1 ? 'the core of a' : 'all 1 cores, most of it a',
    )
    expect(bottleneckOf({ a: 1e5, b: 2e5 }, 1, 'disk')).toBe('disk')
    expect(bottleneckOf({ a: 1e5, b: cores * 1e6 }, 1, 'disk')).toBe(`all ${cores} cores, most of it b`)
    expect(bottleneckOf({ a: 8.1e5 }, 1, 'disk', ['a'])).toBe(
      cores > 1 ? 'disk' : 'all 1 cores, most of it a',
    )
  })

  test('quantile', () => {
    expect(quantile([], 0.5)).toBe(0)
    expect(quantile([3, 1, 2], 0.5)).toBe(2)
    expect(quantile([3, 1, 2], 1)).toBe(3)
  })

  test('table', () => {
    const text = table(
      ['', 'n', 'says'],
      [
        ['a', '1', 'x'],
        ['bb', '10', 'yy'],
      ],
    )
    expect(text).toBe('     n  says\na    1  x\nbb  10  yy')
    expect(figureCells(figures('capture', 1_234, 20))).toEqual([
      'capture',
      '1,234',
      '20.0 = a 10.0 + b 10.0',
      '',
      '',
      'disk',
    ])
  })

  test.skipIf(process.platform !== 'linux')(
    'usage counts children, but not those that are others',
    async () => {
      const child = Bun.spawn(['sleep', '60'], { stdio: ['ignore', 'ignore', 'ignore'] })
      try {
        const all = usageOf(process.pid)
        const own = usageOf(process.pid, new Set([child.pid]))
        expect(all.processes).toBe(own.processes + 1)
        expect(own.cpuUs).toBeGreaterThan(0)
        expect(own.memoryMb).toBeGreaterThan(1)
      } finally {
        child.kill('SIGKILL')
        await child.exited
      }
    },
  )
})
