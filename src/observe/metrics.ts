/**
 * The metrics of this process (prom-client's default registry). Counters are bumped per batch, never per event.
 * Asking twice for the same name gives the same metric, so modules declare theirs where they use them.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, register } from 'prom-client'

export function counter<L extends string = never>(
  name: string,
  help: string,
  labelNames: readonly L[] = [],
): Counter<L> {
  return (register.getSingleMetric(name) as Counter<L> | undefined) ?? new Counter({ name, help, labelNames })
}

/** One series of a counter on a hot path: adding is an addition. */
export class Tally {
  value = 0

  add(count: number): void {
    this.value += count
  }
}

/** A counter whose series are kept as plain numbers; the library is told when metrics are read. Once per name. */
export function tallies<L extends string>(
  name: string,
  help: string,
  labelNames: readonly L[],
): { of(labels: Record<L, string>): Tally } {
  const series: { labels: Record<L, string>; tally: Tally }[] = []
  new Counter({
    name,
    help,
    labelNames,
    collect() {
      for (const { labels, tally } of series) {
        this.inc(labels, tally.value)
        tally.value = 0
      }
    },
  })
  return {
    of(labels) {
      const tally = new Tally()
      series.push({ labels, tally })
      return tally
    },
  }
}

export function gauge<L extends string = never>(
  name: string,
  help: string,
  labelNames: readonly L[] = [],
): Gauge<L> {
  return (register.getSingleMetric(name) as Gauge<L> | undefined) ?? new Gauge({ name, help, labelNames })
}

export function histogram<L extends string = never>(
  name: string,
  help: string,
  buckets: number[],
  labelNames: readonly L[] = [],
): Histogram<L> {
  return (
    (register.getSingleMetric(name) as Histogram<L> | undefined) ??
    new Histogram({ name, help, buckets, labelNames })
  )
}

/** The library's 10 ms would wake every idle process 100 times a second: half a per cent of a core each. */
const EVENT_LOOP_SAMPLE_MS = 200

/** Memory, CPU and event-loop lag of the process; called once by the wiring. */
export function processMetrics(): void {
  if (!register.getSingleMetric('process_cpu_user_seconds_total'))
    collectDefaultMetrics({ eventLoopMonitoringPrecision: EVENT_LOOP_SAMPLE_MS })
}

/** Everything in Prometheus' text format. */
export function metricsText(): Promise<string> {
  return register.metrics()
}
