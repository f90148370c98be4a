/**
 * Product analytics of others: Amplitude, Mixpanel, Google Analytics 4. Each gets its own id of an event (`insert_id`,
 * `$insert_id`, none in GA4), so that a second attempt is recognised there for as long as they remember.
 */
import { Options } from '../options.ts'
import { basic, httpTarget, JSON_HEADERS, jsonBody } from './http-target.ts'
import type { Delivery, TargetKind } from './target.ts'

export const AMPLITUDE: TargetKind = {
  kind: 'amplitude',
  defaults: { api_key: { secret: 'api_key' } },
  open(values, context) {
    const options = new Options('amplitude', values)
    const url = options.url('url', 'https://api2.amplitude.com/2/httpapi')
    const apiKey = options.text('api_key')
    const batchMax = options.whole('batch', 1, 1_000, 100)
    options.done()
    const begin = `{"api_key":${JSON.stringify(apiKey)},"events":[`
    const eventOf = ({ id, view: { row, properties, personProperties } }: Delivery) => ({
      // They refuse ids of less than five characters.
      user_id: row.distinct_id.padEnd(5, '_'),
      event_type: row.event,
      time: row.timestamp,
      insert_id: id,
      event_properties: properties,
      user_properties: personProperties,
      ...(typeof properties.$ip === 'string' ? { ip: properties.$ip } : {}),
    })
    return httpTarget(context, {
      batchMax,
      request: (deliveries) => ({
        url,
        headers: JSON_HEADERS,
        body: jsonBody(deliveries.map(eventOf), begin, ']}'),
      }),
    })
  },
}

export const MIXPANEL: TargetKind = {
  kind: 'mixpanel',
  defaults: { token: { secret: 'token' } },
  open(values, context) {
    const options = new Options('mixpanel', values)
    const url = options.url('url', 'https://api.mixpanel.com/import?strict=1')
    const token = options.text('token')
    const batchMax = options.whole('batch', 1, 2_000, 100)
    options.done()
    const headers = { ...JSON_HEADERS, authorization: basic(token, '') }
    const eventOf = ({ id, view: { row, properties } }: Delivery) => ({
      event: row.event,
      properties: { ...properties, time: row.timestamp, distinct_id: row.distinct_id, $insert_id: id },
    })
    return httpTarget(context, {
      batchMax,
      request: (deliveries) => ({ url, headers, body: jsonBody(deliveries.map(eventOf), '[', ']') }),
    })
  },
}

const GA4_NAME_MAX = 40

export const GA4: TargetKind = {
  kind: 'ga4',
  defaults: { api_secret: { secret: 'api_secret' } },
  open(values, context) {
    const options = new Options('ga4', values)
    const base = options.url('url', 'https://www.google-analytics.com/mp/collect')
    const measurementId = options.text('measurement_id')
    const apiSecret = options.text('api_secret')
    options.done()
    const query = new URLSearchParams({ measurement_id: measurementId, api_secret: apiSecret })
    return httpTarget(context, {
      // A request is of one client.
      batchMax: 1,
      request([delivery]) {
        const { row, properties } = delivery!.view
        const body = {
          client_id: row.distinct_id,
          user_id: row.distinct_id,
          timestamp_micros: row.timestamp * 1_000,
          events: [{ name: ga4Name(row.event), params: ga4Params(properties) }],
        }
        return { url: `${base}?${query}`, headers: JSON_HEADERS, body: JSON.stringify(body) }
      },
    })
  },
}

/** Letters, digits and underscores, with a letter first. */
function ga4Name(name: string): string {
  const plain = name.replace(/[^A-Za-z0-9_]+/g, '_').replace(/^[^A-Za-z]+/, '')
  return (plain || 'event').slice(0, GA4_NAME_MAX)
}

/** At most 25, of numbers and short texts. */
function ga4Params(properties: Record<string, unknown>): Record<string, string | number> {
  const params: Record<string, string | number> = {}
  for (const [key, value] of Object.entries(properties)) {
    if (Object.keys(params).length === 25) break
    if (typeof value === 'number') params[ga4Name(key)] = value
    if (typeof value === 'string') params[ga4Name(key)] = value.slice(0, 100)
  }
  return params
}
