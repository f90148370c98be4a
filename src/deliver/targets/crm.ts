/**
 * Who writes to people: HubSpot, Customer.io, Braze. Each gets the event with the person it is about; `user` is a template for
 * who that is there (a distinct_id by default, an e-mail address for HubSpot).
 */
import { Options } from '../options.ts'
import { compileTemplate } from '../template.ts'
import { basic, httpTarget, JSON_HEADERS, jsonBody } from './http-target.ts'
import type { Delivery, TargetKind } from './target.ts'

/** Upserts the contact by e-mail address with the properties of `properties`. */
export const HUBSPOT: TargetKind = {
  kind: 'hubspot',
  defaults: { access_token: { secret: 'access_token' } },
  open(values, context) {
    const options = new Options('hubspot', values)
    const url = options.url('url', 'https://api.hubapi.com/crm/v3/objects/contacts/batch/upsert')
    const token = options.text('access_token')
    const email = compileTemplate(options.text('email', '{person.properties.email}'))
    const properties = compileTemplate(options.any('properties') ?? {})
    options.done()
    const headers = { ...JSON_HEADERS, authorization: `Bearer ${token}` }
    return httpTarget(context, {
      batchMax: 1,
      request([delivery]) {
        const { fields } = delivery!.view
        const address = String(email(fields) ?? '')
        const input = {
          idProperty: 'email',
          id: address,
          properties: { ...(properties(fields) as object), email: address },
        }
        return { url, headers, body: jsonBody([input], '{"inputs":[', ']}') }
      },
    })
  },
}

export const CUSTOMERIO: TargetKind = {
  kind: 'customerio',
  defaults: { api_key: { secret: 'api_key' } },
  open(values, context) {
    const options = new Options('customerio', values)
    const base = options.url('url', 'https://track.customer.io/api/v1')
    const siteId = options.text('site_id')
    const apiKey = options.text('api_key')
    const user = compileTemplate(options.text('user', '{distinct_id}'))
    options.done()
    const headers = { ...JSON_HEADERS, authorization: basic(siteId, apiKey) }
    return httpTarget(context, {
      batchMax: 1,
      request([delivery]) {
        const { id, view } = delivery!
        const who = encodeURIComponent(String(user(view.fields) ?? ''))
        const { row, properties } = view
        // A ULID or UUID as `id` is how they recognise a second attempt.
        const body = { id, name: row.event, timestamp: Math.floor(row.timestamp / 1_000), data: properties }
        return {
          url: `${base.replace(/\/$/, '')}/customers/${who}/events`,
          headers,
          body: JSON.stringify(body),
        }
      },
    })
  },
}

export const BRAZE: TargetKind = {
  kind: 'braze',
  defaults: { api_key: { secret: 'api_key' } },
  open(values, context) {
    const options = new Options('braze', values)
    const url = options.url('url')
    const apiKey = options.text('api_key')
    const user = compileTemplate(options.text('user', '{distinct_id}'))
    const batchMax = options.whole('batch', 1, 75, 50)
    options.done()
    const headers = { ...JSON_HEADERS, authorization: `Bearer ${apiKey}` }
    const eventOf = ({ view }: Delivery) => ({
      external_id: String(user(view.fields) ?? ''),
      name: view.row.event,
      time: new Date(view.row.timestamp).toISOString(),
      properties: view.properties,
    })
    return httpTarget(context, {
      batchMax,
      request: (deliveries) => ({
        url,
        headers,
        body: jsonBody(deliveries.map(eventOf), '{"events":[', ']}'),
      }),
    })
  },
}
