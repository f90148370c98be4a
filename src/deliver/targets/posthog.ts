/** PostHog's `/batch`, or another headrace: events with the uuid that they have here, so that a second copy is one there. */
import { Options } from '../options.ts'
import { httpTarget, JSON_HEADERS, jsonBody } from './http-target.ts'
import type { TargetKind } from './target.ts'

export const POSTHOG: TargetKind = {
  kind: 'posthog',
  defaults: { api_key: { secret: 'api_key' } },
  open(values, context) {
    const options = new Options('posthog', values)
    const url = options.url('url', 'https://us.i.posthog.com/batch/')
    const apiKey = options.text('api_key')
    const batchMax = options.whole('batch', 1, 1_000, 100)
    const historical = options.choice('historical_migration', ['true', 'false'], 'false') === 'true'
    options.done()
    const begin = `{"api_key":${JSON.stringify(apiKey)},"historical_migration":${historical},"batch":[`
    return httpTarget(context, {
      batchMax,
      request: (deliveries) => ({
        url,
        headers: JSON_HEADERS,
        body: jsonBody(
          deliveries.map(({ view: { row, properties } }) => ({
            uuid: row.uuid,
            event: row.event,
            distinct_id: row.distinct_id,
            timestamp: new Date(row.timestamp).toISOString(),
            properties,
          })),
          begin,
          ']}',
        ),
      }),
    })
  },
}
