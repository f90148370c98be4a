/**
 * A Segment-compatible API (`/v1/batch`): RudderStack, Jitsu, Segment itself, or another headrace. Events become track, page,
 * identify or group calls; `messageId` is the id that stays the same over attempts, by which they are told apart there.
 */
import type { EventView } from '../event-view.ts'
import { Options } from '../options.ts'
import { basic, httpTarget, JSON_HEADERS, jsonBody } from './http-target.ts'
import type { Delivery, TargetKind } from './target.ts'

export const SEGMENT: TargetKind = {
  kind: 'segment',
  defaults: { write_key: { secret: 'write_key' } },
  open(values, context) {
    const options = new Options('segment', values)
    const url = options.url('url', 'https://api.segment.io/v1/batch')
    const writeKey = options.text('write_key')
    const batchMax = options.whole('batch', 1, 500, 100)
    options.done()
    const headers = { ...JSON_HEADERS, authorization: basic(writeKey, '') }
    return httpTarget(context, {
      batchMax,
      request: (deliveries) => ({
        url,
        headers,
        body: jsonBody(deliveries.map(messageOf), '{"batch":[', ']}'),
      }),
    })
  },
}

function messageOf({ id, view }: Delivery): Record<string, unknown> {
  const { row, properties } = view
  const common = {
    messageId: id,
    timestamp: new Date(row.timestamp).toISOString(),
    ...(row.person_mode === 'propertyless' ? { anonymousId: row.distinct_id } : { userId: row.distinct_id }),
  }
  switch (row.event) {
    case '$pageview':
      return { ...common, type: 'page', properties: { ...properties, url: properties.$current_url } }
    case '$identify':
      return { ...common, type: 'identify', traits: traitsOf(view) }
    case '$groupidentify':
      return {
        ...common,
        type: 'group',
        groupId: String(properties.$group_key),
        traits: properties.$group_set ?? {},
      }
    default:
      return { ...common, type: 'track', event: row.event, properties }
  }
}

function traitsOf({ properties }: EventView): unknown {
  return { ...(properties.$set_once as object | undefined), ...(properties.$set as object | undefined) }
}
