import { expect, test } from 'bun:test'
import { metricsText } from '../observe/index.ts'
import { Traffic } from './traffic.ts'

async function sample(line: string): Promise<number> {
  const text = await metricsText()
  const found = text.split('\n').find((row) => row.startsWith(`${line} `))
  return Number(found?.slice(line.length + 1) ?? 0)
}

test('what was counted is in the metrics once it is published, and only once', async () => {
  const traffic = new Traffic()
  const bucket = (le: string) => sample(`headrace_capture_request_seconds_bucket{le="${le}"}`)
  const named = () =>
    Promise.all([
      sample('headrace_capture_requests_total{path="/a",status="200"}'),
      sample('headrace_capture_requests_total{path="/a",status="400"}'),
      bucket('0.001'),
      bucket('0.002'),
      bucket('60'),
      bucket('+Inf'),
      sample('headrace_capture_request_seconds_sum'),
      sample('headrace_capture_request_seconds_count'),
    ])
  const before = await named()
  const rows: [number, number][] = [
    [200, 1],
    [200, 1.5],
    [400, 61_000],
  ]
  for (const [status, ms] of rows) {
    traffic.count('/a', status)
    traffic.took(ms)
  }
  expect(await named()).toEqual(before)
  traffic.publish()
  traffic.publish()
  const added = (await named()).map((value, at) => value - before[at]!)
  expect(added.map((value) => Math.round(value * 10_000) / 10_000)).toEqual([2, 1, 1, 2, 2, 3, 61.0025, 3])
})
