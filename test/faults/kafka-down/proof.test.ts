/** The proof itself: it must find each kind of wrong, and nothing where all is right. */
import { expect, test } from 'bun:test'
import { partitionOf, TOPICS, uuidV7 } from '../../../src/event/index.ts'
import type { SentEvent } from './ledger.ts'
import { type Arrived, Proof } from './proof.ts'

const PLACES = { token: 'phc_test', partitions: 8 }
const { token, partitions } = PLACES

/** Three events of one distinct id, one of an import, one without a person; all acknowledged. */
function story() {
  const sent = new Map<string, SentEvent>()
  const arrived: Arrived[] = []
  const add = (distinctId: string, sequence: number, more: Partial<SentEvent> = {}) => {
    const uuid = uuidV7(Date.now())
    const event = { distinctId, sequence, historical: false, personless: false, acked: true, ...more }
    sent.set(uuid, event)
    const partition = event.personless
      ? partitionOf({ kind: 'personless', token, uuid }, partitions)
      : partitionOf({ kind: 'distinctId', token, distinctId }, partitions)
    const topic = event.historical ? TOPICS.rawHistorical : TOPICS.raw
    arrived.push({ topic, partition, uuid, distinctId, sequence })
  }
  for (const sequence of [0, 1, 2]) add('ada', sequence)
  add('import', 0, { historical: true })
  add('ada', 3, { personless: true })
  return { sent, arrived }
}

function findings(spoil: (arrived: Arrived[], sent: Map<string, SentEvent>) => void): string[] {
  const { sent, arrived } = story()
  spoil(arrived, sent)
  const proof = new Proof(sent, PLACES)
  for (const record of arrived) proof.look(record)
  return proof.findings().map((sentence) => sentence.slice(0, sentence.indexOf(': 1, such as')))
}

test('nothing is wrong when all is there in order, once or more often', () => {
  expect(findings(() => {})).toEqual([])
  expect(findings((arrived) => void arrived.push(...arrived))).toEqual([])
  expect(findings((arrived) => void arrived.splice(1, 0, arrived[0]!))).toEqual([])
})

test('what was not acknowledged may be missing', () => {
  expect(
    findings((arrived, sent) => {
      sent.get(arrived.pop()!.uuid)!.acked = false
    }),
  ).toEqual([])
})

function change(arrived: Arrived[], index: number, to: Partial<Arrived>): void {
  arrived[index] = { ...arrived[index]!, ...to }
}

function move(arrived: Arrived[], index: number): void {
  change(arrived, index, { partition: (arrived[index]!.partition + 1) % partitions })
}

const WRONGS: [string, (arrived: Arrived[]) => void][] = [
  ['I1: acknowledged but not in the log', (arrived) => void arrived.splice(1, 1)],
  ['I3: out of order', (arrived) => void arrived.splice(0, 2, arrived[1]!, arrived[0]!)],
  ['stored but never sent so', (arrived) => void arrived.push({ ...arrived[0]!, uuid: uuidV7(0) })],
  ['stored but never sent so', (arrived) => void arrived.push({ ...arrived[0]!, sequence: 9 })],
  ['stored but never sent so', (arrived) => void arrived.push({ ...arrived[0]!, distinctId: 'bob' })],
  ['in the wrong lane', (arrived) => change(arrived, 0, { topic: TOPICS.rawHistorical })],
  ['in the wrong partition', (arrived) => move(arrived, 2)],
  ['in the wrong partition', (arrived) => move(arrived, 4)],
]

test.each(WRONGS)('finds what is %s', (what, spoil) => {
  expect(findings(spoil)).toEqual([what])
})
