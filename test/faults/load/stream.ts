/**
 * What ingest would give the load: batches of events with their receipts, at a rate that breathes. Now and then the
 * events of a batch lie in 80 months, so that one insert makes many parts and no cut can hold them all; some offsets
 * have several rows, others none; and a few rows are such that ClickHouse refuses them, more when somebody asks for it.
 */
import type { Sql } from '../../../src/catalog/index.ts'
import {
  DUPLICATE,
  decodeRowHeader,
  dropCode,
  type OffsetOutcome,
  STORED,
  TOPICS,
  viewOf,
} from '../../../src/event/index.ts'
import type { Log, Producer, SendRecord } from '../../../src/log/index.ts'
import { EVENT_TIME_MS, RawPartition } from '../../support/rows.ts'

const EVERY_MS = 40
const EVENTS_MAX = 30
const MONTH_MS = 30.4 * 86_400_000
const MONTHS = 80
const LIKELIHOOD = { manyMonths: 0.1, severalRows: 0.1, duplicate: 0.05, dropped: 0.05, refused: 0.001 }
const ROWS_MAX = 3
const PRODUCE_DEADLINE_MS = 30_000

export class Stream {
  /** Rows that must be in `events`, each once. */
  rows = 0
  /** Rows that ClickHouse must refuse. */
  refused = 0
  private ending = false
  private readonly spoilt = new Set<string>()
  /** Partition numbers whose next batch is to have a row that ClickHouse refuses. */
  private readonly toSpoil = new Set<number>()
  /** The batch that is being made. */
  private making: Promise<void> = Promise.resolve()
  private pauses = 0
  private spoils = 0
  private readonly producer: Producer
  private readonly partitions: RawPartition[]
  private readonly running: Promise<void>

  constructor(
    deps: { log: Log; sql: Sql; rawId: string; partitions: number },
    private readonly random: () => number,
    private readonly isBehind: () => boolean,
  ) {
    this.producer = deps.log.producer({ name: 'ingest', deadlineMs: PRODUCE_DEADLINE_MS })
    const producer: Producer = {
      send: (records) => this.producer.send(records.map((record) => this.perhapsSpoilt(record))),
      close: () => this.producer.close(),
    }
    this.partitions = Array.from(
      { length: deps.partitions },
      (_, partition) => new RawPartition({ sql: deps.sql, producer, rawId: deps.rawId, partition }),
    )
    this.running = this.run()
  }

  /** A row that ClickHouse refuses comes next, in one partition after the other. */
  spoil(): void {
    this.toSpoil.add(this.spoils++ % this.partitions.length)
  }

  /** Nothing is under way while `work` runs. */
  async without(work: () => Promise<void>): Promise<void> {
    this.pauses++
    try {
      await this.making
      await work()
    } finally {
      this.pauses--
    }
  }

  /** Resolves when nothing more comes. */
  async end(): Promise<void> {
    this.ending = true
    await this.running
    await this.producer.close()
  }

  private async run(): Promise<void> {
    while (!this.ending) {
      const from = performance.now()
      for (const [number, partition] of this.partitions.entries()) {
        if (this.pauses > 0 || (this.isBehind() && !this.toSpoil.has(number))) continue
        this.making = this.batch(number, partition)
        await this.making
      }
      await Bun.sleep(Math.max(0, EVERY_MS * 2 * this.random() - (performance.now() - from)))
    }
  }

  private async batch(number: number, partition: RawPartition): Promise<void> {
    const outcomes = Array.from({ length: 1 + Math.floor(this.random() * EVENTS_MAX) }, () => this.outcome())
    const asked = this.toSpoil.delete(number)
    if (asked) outcomes.push({ code: STORED, rows: ROWS_MAX })
    const spread = this.random() < LIKELIHOOD.manyMonths ? MONTHS : 1
    const months = outcomes.map(() => Math.floor(this.random() * spread))
    const first = partition.offset
    for (const [i, { rows }] of outcomes.entries()) {
      for (let sub = 0; sub < rows; sub++) {
        if (this.random() < LIKELIHOOD.refused) this.spoilt.add(placeOf(number, first + i, sub))
      }
    }
    if (asked) {
      const sub = Math.floor(this.random() * ROWS_MAX)
      this.spoilt.add(placeOf(number, first + outcomes.length - 1, sub))
    }
    await partition.batch(outcomes, (offset) => EVENT_TIME_MS - months[offset - first]! * MONTH_MS)
  }

  private outcome(): OffsetOutcome {
    let at = this.random()
    const meets = (likelihood: number) => {
      at -= likelihood
      return at < 0
    }
    if (meets(LIKELIHOOD.severalRows))
      return { code: STORED, rows: 2 + Math.floor(this.random() * (ROWS_MAX - 1)) }
    if (meets(LIKELIHOOD.duplicate)) return { code: DUPLICATE, rows: 0 }
    if (meets(LIKELIHOOD.dropped)) return { code: dropCode('unknown_token'), rows: 0 }
    return { code: STORED, rows: 1 }
  }

  /** What is spoilt has an event name that claims to be longer than any insert; it stands behind the uuid. */
  private perhapsSpoilt(record: SendRecord): SendRecord {
    if (record.topic !== TOPICS.events) return record
    const { source } = decodeRowHeader(viewOf(record.header))
    if (!this.spoilt.has(placeOf(source.partition, source.offset, source.sub))) {
      this.rows++
      return record
    }
    this.refused++
    const value = Buffer.from(viewOf(record.value))
    value.set([255, 255, 255, 255, 127], 16)
    return { ...record, value }
  }
}

function placeOf(partition: number, offset: number, sub: number): string {
  return `${partition}/${offset}/${sub}`
}
