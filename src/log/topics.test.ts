import { describe, expect, test } from 'bun:test'
import { TOPICS } from '../event/index.ts'
import {
  checkTopics,
  deploymentTopics,
  type ExistingTopic,
  formatPlan,
  planTopics,
  type WantedTopic,
} from './topics.ts'

const wanted: WantedTopic = {
  name: 'raw_events',
  partitions: 8,
  recordBytesMax: 1_048_576,
  retentionMs: 604_800_000,
  replication: 3,
  minInsyncReplicas: 2,
}

const good: ExistingTopic = {
  ...wanted,
  logId: '00000000-0000-4000-8000-000000000001',
  cleanupPolicy: 'delete',
  uncleanElection: false,
  appendTime: true,
}

function without(topic: ExistingTopic, key: keyof ExistingTopic): ExistingTopic {
  const copy = { ...topic }
  delete copy[key]
  return copy
}

describe('planTopics', () => {
  const rows: [string, ExistingTopic[], { kind: string; says: RegExp; boot: string | undefined }[]][] = [
    ['all is well', [good], []],
    [
      'a missing topic is created',
      [],
      [
        {
          kind: 'create',
          says: /8 partitions, replication 3, min.insync.replicas 2, retention 7 days, records up to 1048576 bytes/,
          boot: 'HR_LOG_NO_TOPIC',
        },
      ],
    ],
    [
      'other partitions cannot be mended',
      [{ ...good, partitions: 6 }],
      [
        {
          kind: 'wrong',
          says: /has 6 partitions and this deployment was set up for 8/,
          boot: 'HR_LOG_WRONG_TOPIC',
        },
      ],
    ],
    [
      'less replication cannot be mended',
      [{ ...good, replication: 1 }],
      [{ kind: 'wrong', says: /replication 1 and at least 3/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    ['more replication is fine', [{ ...good, replication: 5 }], []],
    [
      'shorter retention is mended and stops the boot',
      [{ ...good, retentionMs: 86_400_000 }],
      [{ kind: 'alter', says: /retention.ms is 1 day and becomes 7 days/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      'longer retention is mended, the boot goes on',
      [without(good, 'retentionMs')],
      [{ kind: 'alter', says: /retention.ms is unlimited and becomes 7 days/, boot: undefined }],
    ],
    [
      'a size limit nobody asked for is lifted',
      [{ ...good, retentionBytes: 1000 }],
      [{ kind: 'alter', says: /retention.bytes is 1000 and becomes unlimited/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      'a smaller record limit stops the boot',
      [{ ...good, recordBytesMax: 1000 }],
      [{ kind: 'alter', says: /is 1000 and becomes 1048576/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      'a larger record limit does not',
      [{ ...good, recordBytesMax: 2_000_000 }],
      [{ kind: 'alter', says: /is 2000000 and becomes 1048576/, boot: undefined }],
    ],
    [
      'fewer in-sync replicas stop the boot',
      [{ ...good, minInsyncReplicas: 1 }],
      [{ kind: 'alter', says: /min.insync.replicas is 1 and becomes 2/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      'compaction would remove records',
      [{ ...good, cleanupPolicy: 'compact' }],
      [{ kind: 'alter', says: /cleanup.policy is compact and becomes delete/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      'unclean election would lose records',
      [{ ...good, uncleanElection: true }],
      [{ kind: 'alter', says: /unclean.leader.election.enable is true/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    [
      "the client's clock must not decide retention",
      [{ ...good, appendTime: false }],
      [{ kind: 'alter', says: /message.timestamp.type is CreateTime/, boot: 'HR_LOG_WRONG_TOPIC' }],
    ],
    ['other topics are left alone', [good, { ...good, name: 'theirs', partitions: 1 }], []],
  ]
  test.each(rows)('%s', (_rule, existing, expected) => {
    const plan = planTopics([wanted], existing)
    expect(plan.map(({ kind }) => kind)).toEqual(
      expected.map(({ kind }) => kind) as (typeof plan)[number]['kind'][],
    )
    for (const [i, { says, boot }] of expected.entries()) {
      expect(plan[i]!.sentence).toMatch(says)
      expect(formatPlan(plan)).toContain(plan[i]!.sentence)
      let code: string | undefined
      try {
        checkTopics([wanted], existing)
      } catch (error) {
        code = (error as { code: string }).code
      }
      expect(code).toBe(boot)
    }
    if (expected.length === 0) expect(() => checkTopics([wanted], existing)).not.toThrow()
  })

  test('two differences make one action with both', () => {
    const plan = planTopics([wanted], [{ ...good, retentionMs: 1, minInsyncReplicas: 1 }])
    expect(plan).toHaveLength(1)
    expect(plan[0]).toMatchObject({
      kind: 'alter',
      change: { retentionMs: 604_800_000, minInsyncReplicas: 2 },
    })
  })
})

describe('deploymentTopics', () => {
  const topics = deploymentTopics({ partitions: 8, replication: 3, minInsyncReplicas: 2 })
  const named = (name: string) => topics.find((topic) => topic.name === name)!

  test('every topic of the event path is there once', () => {
    expect(topics.map(({ name }) => name).sort()).toEqual(Object.values(TOPICS).sort())
  })

  test('topics with two writing roles have twice the partitions', () => {
    expect(named('raw_events').partitions).toBe(8)
    expect(named('events').partitions).toBe(8)
    expect(named('dead_letters').partitions).toBe(16)
    expect(named('outcomes').partitions).toBe(16)
  })

  test('rows may be larger than the events they are made of', () => {
    expect(named('raw_events').recordBytesMax).toBe(1_048_576)
    expect(named('raw_events_historical').recordBytesMax).toBe(1_048_576)
    expect(named('events').recordBytesMax).toBe(4_194_304)
  })

  test('seven days by default, other figures as given', () => {
    expect(named('events').retentionMs).toBe(604_800_000)
    expect(deploymentTopics({ partitions: 1, retentionMs: 5 })[0]).toMatchObject({ retentionMs: 5 })
    expect(named('events')).toMatchObject({ replication: 3, minInsyncReplicas: 2 })
  })
})
