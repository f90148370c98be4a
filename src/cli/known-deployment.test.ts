import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitFor } from '../../test/support/wait-for.ts'
import { stateError } from '../catalog/index.ts'
import { createLogger } from '../observe/index.ts'
import { type DeploymentQuestion, learnDeployment } from './known-deployment.ts'

const BORN = { id: '0193a7c4-5b1e-7c3a-9d2f-000000000001', partitions: 64 }

let dataDir: string
let stop: AbortController
let fatal: unknown[]
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'headrace-known-'))
  stop = new AbortController()
  fatal = []
})
afterEach(() => {
  stop.abort()
  rmSync(dataDir, { recursive: true, force: true })
})

function learn(ask: DeploymentQuestion['ask'], settings: Partial<DeploymentQuestion> = {}) {
  return learnDeployment({
    dataDir,
    logKind: 'kafka',
    partitions: 0,
    ask,
    logger: createLogger('capture', 'silent'),
    fatal: (error) => fatal.push(error),
    signal: stop.signal,
    ...settings,
  })
}

const away = async () => {
  throw stateError('HR_STATE_UNAVAILABLE', 'Postgres is away')
}
const here = async () => BORN
const file = () => JSON.parse(readFileSync(join(dataDir, 'capture.json'), 'utf8')) as unknown

describe('the deployment', () => {
  test('is asked of Postgres and remembered', async () => {
    expect(await learn(here)).toEqual(BORN)
    expect(file()).toEqual({ ...BORN, logKind: 'kafka' })
  })

  test('that was never bound waits for Postgres', async () => {
    await expect(learn(away)).rejects.toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
  })

  test('is the remembered one while Postgres is away, and verified when it is back', async () => {
    await learn(here)
    let asked = 0
    const later = async () => {
      if (++asked < 3) return away()
      return BORN
    }
    expect(await learn(later)).toMatchObject(BORN)
    await waitFor('the verification', () => asked === 3, 10_000)
    expect(fatal).toEqual([])
  })

  test('that turns out to be another one is fatal', async () => {
    await learn(here)
    let isBack = false
    const later = async () => (isBack ? { ...BORN, id: '0193a7c4-5b1e-7c3a-9d2f-000000000002' } : away())
    await learn(later)
    isBack = true
    await waitFor('the end', () => fatal.length > 0, 10_000)
    expect(fatal).toMatchObject([{ code: 'HR_DEPLOYMENT_MISMATCH', class: 'fatal' }])
  })

  test('of a hanging Postgres is the remembered one, too', async () => {
    await learn(here)
    expect(await learn(() => new Promise(() => {}))).toMatchObject(BORN)
  })

  const others: [string, DeploymentQuestion['ask'], Partial<DeploymentQuestion>][] = [
    ['another one by Postgres', async () => ({ ...BORN, partitions: 8 }), {}],
    ['another log by the settings, Postgres away', away, { logKind: 'embedded' }],
    ['another number of partitions by the settings, Postgres away', away, { partitions: 8 }],
  ]
  test.each(others)('%s is refused', async (_, ask, settings) => {
    await learn(here)
    await expect(learn(ask, settings)).rejects.toMatchObject({ code: 'HR_DEPLOYMENT_MISMATCH' })
  })

  test('of a file that cannot be read is asked of Postgres', async () => {
    writeFileSync(join(dataDir, 'capture.json'), '{"id":')
    expect(await learn(here)).toEqual(BORN)
    expect(file()).toEqual({ ...BORN, logKind: 'kafka' })
  })
})
