/** Waking by the watch alone: the slow poll is out of the way here. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { send, TOPIC, withDir, withLog } from './log.fixture.ts'

setDefaultTimeout(60_000)
const NO_POLL = { pollMs: 2 ** 30 }
const ROUNDS = 150
// Without waiting for the disk, commits come as close together as they can.
const NO_DISK = { operations: { fdatasync: async () => {} } }

test('a reader is woken for every commit, also when two come within a millisecond', () =>
  withDir((dir) =>
    withLog({ dir, ...NO_DISK }, (log) =>
      withLog({ dir, ...NO_POLL }, async (other) => {
        await log.createTopic(TOPIC)
        const reader = other.reader({ topic: TOPIC.name, partition: 0, from: 0 })
        let seen = 0
        for (let round = 1; round <= ROUNDS; round++) {
          await send(log, ['a'])
          await send(log, ['b'])
          while (seen < 2 * round) {
            const late = AbortSignal.timeout(5_000)
            const records = await reader.next({ records: 10, bytes: 1e6 }, late)
            expect(late.aborted).toBe(false)
            seen += records.length
          }
        }
        expect(seen).toBe(2 * ROUNDS)
      }),
    ),
  ))
