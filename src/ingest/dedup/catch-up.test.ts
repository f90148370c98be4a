/** I2 on a machine whose index lacks what was decided: it learns it from the log, or says what it cannot learn. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import pino from 'pino'
import { createProject, ProjectCatalog, type ProjectCatalogOptions } from '../../catalog/index.ts'
import { TOPICS } from '../../event/index.ts'
import type { LaneId } from '../fence.ts'
import { Pipeline } from '../pipeline.fixture.ts'
import { projectsOf } from '../projects.ts'
import { catchUp } from './catch-up.ts'
import { HOUR } from './claims.fixture.ts'
import { Claims } from './claims.ts'
import { LostOffsets } from './lost-offsets.ts'

setDefaultTimeout(60_000)

const pipeline = new Pipeline()
const never = new AbortController().signal
let claims: Claims

beforeEach(() => {
  claims = Claims.open(':memory:', HOUR)
})
afterEach(() => claims.close())

async function lane(): Promise<LaneId> {
  const [raw] = await pipeline.log.describe([TOPICS.raw])
  return { logId: raw!.logId, topic: TOPICS.raw, partition: 0 }
}

/** As the role does, unless `options` say otherwise. */
function catalog(options: ProjectCatalogOptions = { unknownMs: 0 }): ProjectCatalog {
  return new ProjectCatalog(pipeline.sql, options)
}

test('the claim of a project that was unknown a moment ago is not left out', async () => {
  const projects = catalog()
  try {
    // The first reading of an event that nobody knew: had it been remembered, the claim below would be lost for good.
    expect((await projects.lookup(new Set(['young']))).get('young')).toBeUndefined()
    await createProject(pipeline.sql, { name: 'young', token: 'young' })
    await pipeline.capture([{ json: '{}', token: 'young' }, { json: '{}' }])
    expect(await pipeline.ingested(2)).toMatchObject({ stored: 2 })
    const deps = {
      sql: pipeline.sql,
      log: pipeline.log,
      projectsOf: projectsOf(projects, pino({ level: 'silent' })),
    }
    expect(await catchUp(claims, deps, await lane(), 2, never)).toEqual({ read: 2, lacking: undefined })
    expect(claims.count()).toBe(2)
  } finally {
    await projects.close()
  }
})

test('what the log no longer holds is told, but for what was given up', async () => {
  await pipeline.capture([{ json: '{}' }, { json: '{}' }, { json: '{}' }])
  await pipeline.ingested(3)
  const projects = catalog()
  try {
    const id = await lane()
    // As if retention had passed the first two: all that differs for whoever reads.
    const log = new Proxy(pipeline.log, {
      get: (target, key) => {
        if (key === 'bounds') return async () => ({ start: 2, end: 3 })
        const value = Reflect.get(target, key)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const deps = { sql: pipeline.sql, log, projectsOf: projectsOf(projects, pino({ level: 'silent' })) }
    const [, , third] = await pipeline.records(TOPICS.raw)
    const { read, lacking } = await catchUp(claims, deps, id, 3, never)
    expect({ read, lacking }).toEqual({ read: 1, lacking: { offsets: 2, sinceMs: third!.appendedMs } })
    const other = Claims.open(':memory:', HOUR)
    other.lost = new LostOffsets([{ logId: id.logId, from: 0, to: 2 }])
    expect((await catchUp(other, deps, id, 3, never)).lacking).toBeUndefined()
    other.close()
  } finally {
    await projects.close()
  }
})
