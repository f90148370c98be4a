/**
 * A topic of another Kafka: one record per event, by distinct_id, its value the event as a webhook's `data` with its `id`.
 * The producer is ours (idempotent, acks of all replicas). Brokers are named by who runs this deployment: their addresses
 * are not judged, since a cluster names its brokers itself.
 */
import { isRejected, murmur2 } from '../../event/index.ts'
import { type KafkaLog, openKafkaLog, type Producer } from '../../log/index.ts'
import { Options } from '../options.ts'
import {
  type Delivery,
  eachAlone,
  shorten,
  type Target,
  type TargetContext,
  type TargetKind,
  type Verdict,
} from './target.ts'

const BROKER = /^[^\s,:]+:\d{1,5}$/

export const KAFKA: TargetKind = {
  kind: 'kafka',
  open(values, context) {
    const options = new Options('kafka', values)
    const brokers = options.text('brokers').split(',')
    const topic = options.text('topic')
    const tls = options.choice('tls', ['on', 'off'], 'off')
    const mechanism = options.choice('sasl', ['none', 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'], 'none')
    const username = options.optionalText('user') ?? ''
    const password = options.optionalText('password') ?? ''
    const batchMax = options.whole('batch', 1, 1_000, 500)
    options.done()
    if (!brokers.every((broker) => BROKER.test(broker)))
      throw options.invalid('brokers', 'host:port, or several with commas')
    return new KafkaTarget(context, topic, batchMax, () =>
      openKafkaLog({
        brokers,
        clientId: 'headrace-destination',
        connectTimeoutMs: context.timeoutMs,
        requestTimeoutMs: context.timeoutMs,
        ...(tls === 'on' ? { tls: {} } : {}),
        ...(mechanism === 'none' ? {} : { sasl: { mechanism, username, password } }),
      }),
    )
  },
}

type Opened = { log: KafkaLog; producer: Producer; partitions: number }

class KafkaTarget implements Target {
  private opening: Promise<Opened> | undefined

  constructor(
    private readonly context: TargetContext,
    private readonly topic: string,
    readonly batchMax: number,
    private readonly open: () => Promise<KafkaLog>,
  ) {}

  send(deliveries: readonly Delivery[]): Promise<Verdict[]> {
    return eachAlone(deliveries, (some) => this.produce(some))
  }

  private async produce(deliveries: readonly Delivery[]): Promise<Verdict> {
    try {
      this.opening ??= this.connect().catch((error: unknown) => {
        this.opening = undefined
        throw error
      })
      const { producer, partitions } = await this.opening
      await producer.send(
        deliveries.map(({ id, view }) => ({
          topic: this.topic,
          // Where Kafka's own partitioner would put this key.
          partition: murmur2(Buffer.from(view.row.distinct_id)) % partitions,
          header: Buffer.from(id),
          value: Buffer.from(`{"id":"${id}",${view.json.slice(1)}`),
        })),
      )
      return { kind: 'delivered', status: 200, response: '' }
    } catch (error) {
      const response = shorten((error as Error).message)
      return { kind: isRejected(error) ? 'refused' : 'failed', status: 0, response }
    }
  }

  private async connect(): Promise<Opened> {
    const log = await this.open()
    try {
      const [state] = await log.describe([this.topic])
      if (!state) throw new Error(`there is no topic ${this.topic}`)
      const producer = log.producer({ name: 'destination', deadlineMs: this.context.timeoutMs })
      return { log, producer, partitions: state.partitions }
    } catch (error) {
      await log.close()
      throw error
    }
  }

  async close(): Promise<void> {
    const opened = await this.opening?.catch(() => undefined)
    this.opening = undefined
    await opened?.producer.close()
    await opened?.log.close()
  }
}
