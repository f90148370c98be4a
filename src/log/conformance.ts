/**
 * The promises of `log.ts` as tests. Each implementation runs them on the real thing; what only one can do (a
 * proxy that cuts answers, power loss) is tested beside it.
 */
import { afterAll, beforeAll, describe } from 'bun:test'
import { crashChapter } from './conformance/crashes.ts'
import { groupChapter } from './conformance/groups.ts'
import type { LogHarness } from './conformance/harness.ts'
import { recordChapter } from './conformance/records.ts'
import { topicChapter } from './conformance/topics.ts'

export type { KillableSender, LogHarness } from './conformance/harness.ts'
export { type Ack, sendNumbered } from './conformance/numbered.ts'

/** Registers the suite. `start` runs once before it; `timeoutMs` is for the tests that kill and rebalance. */
export function logConformance(name: string, start: () => Promise<LogHarness>, timeoutMs = 60_000): void {
  describe(`${name}: conformance`, () => {
    let harness: LogHarness | undefined
    const context = { harness: () => harness! }
    beforeAll(async () => {
      harness = await start()
    }, timeoutMs)
    afterAll(async () => {
      await harness?.close()
    }, timeoutMs)
    describe('records', () => recordChapter(context))
    describe('topics', () => topicChapter(context, timeoutMs))
    describe('groups', () => groupChapter(context, timeoutMs))
    describe('crashes', () => crashChapter(context, timeoutMs))
  })
}
