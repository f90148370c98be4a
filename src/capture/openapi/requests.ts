/** What capture takes, as schemas, parameters and examples; the limits are the settings' own. */
import type { Settings } from '../../catalog/index.ts'
import { list, type Operation, object, type Parameter, ref, type Schema, text } from './schema.ts'

type Body = NonNullable<Operation['requestBody']>

const TIME = '2026-01-31T12:00:00.000Z'
const UUID = '0198c0de-0000-7000-8000-000000000001'

const EVENT_EXAMPLE = {
  event: 'order placed',
  distinct_id: 'user-7',
  uuid: UUID,
  timestamp: TIME,
  properties: { total: 49.9, currency: 'EUR' },
}
const BATCH_EXAMPLE = { api_key: 'phc_example', batch: [EVENT_EXAMPLE], sent_at: TIME }
const V1_EXAMPLE = { created_at: TIME, batch: [EVENT_EXAMPLE] }
const MESSAGE_EXAMPLE = {
  userId: 'user-7',
  messageId: 'example-1',
  timestamp: TIME,
  event: 'order placed',
  properties: { total: 49.9 },
}

const PROPERTIES = { type: 'object', description: 'Anything about the event.' }
const TOKEN = text('The project token.')

export function requestSchemas(settings: Settings): Record<string, Schema> {
  const {
    captureBatchEventsMax: eventsMax,
    captureEventDepthMax: depthMax,
    captureEventKeysMax: keysMax,
  } = settings
  const within = `At most ${settings.captureEventBytesMax} bytes, ${depthMax} levels and ${keysMax} keys.`
  const batchOf = (name: string) => list(ref(name), 'Of one project.', { maxItems: eventsMax })
  return {
    Event: object(
      {
        event: text('The name.', { minLength: 1 }),
        distinct_id: {
          description:
            'Who did it; also as `$distinct_id` or in `properties`. What is no string is kept as its JSON. What is longer than 200 characters is cut, with a hash of the whole at its end.',
        },
        uuid: {
          type: ['string', 'null'],
          description: 'The same event sent again has the same, and is stored once. Made when missing.',
        },
        timestamp: { type: ['string', 'null'], description: 'When it happened; ISO 8601 at best.' },
        offset: {
          type: ['integer', 'null'],
          description: 'How long ago it happened, ms; wins over `timestamp`.',
        },
        properties: PROPERTIES,
        $set: { type: 'object', description: 'Properties of the person.' },
        $set_once: { type: 'object', description: 'Properties of the person that have no value yet.' },
        api_key: text(
          'The project token, where no batch names it; also `token`, `$token` or in `properties`.',
        ),
      },
      ['event'],
      within,
    ),
    Batch: object(
      {
        api_key: TOKEN,
        batch: batchOf('Event'),
        sent_at: text("The client's clock when it sent; corrects the events' times."),
        historical_migration: { type: 'boolean', description: 'Goes to the lane of imports.' },
      },
      ['batch'],
    ),
    V0Body: {
      description: 'A batch, a list of events, or one event.',
      anyOf: [ref('Batch'), list(ref('Event'), '', { maxItems: eventsMax }), ref('Event')],
    },
    V1Event: object(
      {
        event: text('The name.', { minLength: 1, maxLength: 200 }),
        distinct_id: text('Who did it.', { minLength: 1, maxLength: 200 }),
        uuid: text('The same event sent again has the same, and is stored once. Made when missing.'),
        timestamp: text('When it happened, as in RFC 3339.'),
        session_id: text('Becomes `$session_id`.'),
        window_id: text('Becomes `$window_id`.'),
        options: object({
          cookieless_mode: { description: 'A truth value in any usual form.' },
          disable_skew_correction: { description: 'Takes `timestamp` at its word.' },
          process_person_profile: { description: 'False keeps the event without a person.' },
          product_tour_id: text('Becomes `$product_tour_id`.'),
        }),
        properties: PROPERTIES,
      },
      ['event', 'distinct_id', 'timestamp'],
      within,
    ),
    V1Batch: object(
      {
        created_at: text('When the batch was made, as in RFC 3339.'),
        batch: list(ref('V1Event'), '', { minItems: 1, maxItems: eventsMax }),
        historical_migration: { type: 'boolean', description: 'Goes to the lane of imports.' },
        capture_internal: { description: "True: the sender's address says nothing and is not kept." },
      },
      ['created_at', 'batch'],
    ),
    SegmentMessage: object(
      {
        type: text('Which call it is, in a batch.'),
        messageId: text('The same message sent again has the same, and is stored once.'),
        userId: { description: 'Who did it, once known.' },
        anonymousId: { description: 'Who did it, before.' },
        event: text('The name, of track.'),
        properties: PROPERTIES,
        traits: { type: 'object', description: 'What is known of the person or the group.' },
        groupId: { description: 'Of group.' },
        previousId: { description: 'Of alias.' },
        context: { type: 'object', description: 'Where it happened.' },
        timestamp: text('When it happened.'),
        sentAt: text("The client's clock when it sent."),
        writeKey: text('The project token, where `Authorization` does not have it.'),
      },
      [],
      'What becomes of each member is in docs/guides/segment.md.',
    ),
    SegmentBatch: object(
      { batch: list(ref('SegmentMessage')), writeKey: TOKEN, sentAt: text("The client's clock.") },
      ['batch'],
    ),
  }
}

function limits(settings: Settings): string {
  return `At most ${settings.captureBodyBytesMax} bytes on the wire (\`HEADRACE_CAPTURE_BODY_BYTES_MAX\`) and ${settings.captureInflatedBytesMax} decompressed (\`HEADRACE_CAPTURE_INFLATED_BYTES_MAX\`).`
}

const examples = (value: unknown) => ({ example: { value } })
const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64')

export function v0Body(settings: Settings): Body {
  return {
    required: true,
    description: `JSON under any content type, plain or compressed by gzip, deflate, br or zstd: the bytes say what they are, where headers are wrong or missing. Also base64 of it, and a form with it in \`data\`. ${limits(settings)}`,
    content: {
      'application/json': { schema: ref('V0Body'), examples: examples(BATCH_EXAMPLE) },
      'text/plain': {
        schema: text(
          'JSON, compressed JSON, or base64 of either: what browsers may send without asking first.',
        ),
        examples: examples(JSON.stringify({ ...EVENT_EXAMPLE, api_key: 'phc_example' })),
      },
      'application/x-www-form-urlencoded': {
        schema: object({ data: text('JSON, or base64 of it, compressed or not.') }, ['data']),
        examples: examples({ data: base64([{ ...EVENT_EXAMPLE, api_key: 'phc_example' }]) }),
      },
    },
  }
}

/** Where the path of v0 takes GET: the payload in the query, as pixels send it. */
export const V0_QUERY: Parameter = {
  name: 'data',
  in: 'query',
  required: true,
  description: 'The body, as JSON or base64.',
  schema: { type: 'string' },
  example: base64({ ...EVENT_EXAMPLE, api_key: 'phc_example' }),
}

export const V0_PARAMETERS: Parameter[] = [
  { name: 'beacon', in: 'query', description: '`1`: an answer without a body.', schema: { type: 'string' } },
  {
    name: 'sent_at',
    in: 'query',
    description: "The client's clock when it sent, epoch ms, where the body does not say it; also `_`.",
    schema: { type: 'string' },
  },
]

export function v1Body(settings: Settings): Body {
  return {
    required: true,
    description: `Compressed as \`Content-Encoding\` says. ${limits(settings)}`,
    content: { 'application/json': { schema: ref('V1Batch'), examples: examples(V1_EXAMPLE) } },
  }
}

const header = (
  name: string,
  description: string,
  example: string,
  schema: Schema = { type: 'string' },
): Parameter => ({
  name,
  in: 'header',
  required: true,
  description,
  schema,
  example,
})

export const V1_PARAMETERS: Parameter[] = [
  header('User-Agent', 'Any.', 'example/1.0.0'),
  header('PostHog-Sdk-Info', '`name/version`.', 'example/1.0.0'),
  header('PostHog-Attempt', 'How often this request was sent, from 1 on.', '1', {
    type: 'string',
    pattern: '^[1-9]\\d*$',
  }),
  header('PostHog-Request-Id', 'The same in every attempt.', UUID, { type: 'string', format: 'uuid' }),
  header('PostHog-Request-Timestamp', "The client's clock when it sent.", TIME, {
    type: 'string',
    format: 'date-time',
  }),
  {
    name: 'Content-Encoding',
    in: 'header',
    description: 'How the body is compressed.',
    schema: { enum: ['gzip', 'deflate', 'br', 'zstd'] },
  },
]

/** `call` is undefined for a batch. */
export function segmentBody(call: string | undefined): Body {
  const message = {
    ...MESSAGE_EXAMPLE,
    ...(call === 'group' ? { groupId: 'company-1' } : {}),
    ...(call === 'alias' ? { previousId: 'anonymous-1' } : {}),
  }
  const value = call === undefined ? { batch: [{ type: 'track', ...message }] } : message
  return {
    required: true,
    description: 'JSON under any content type, plain or compressed.',
    content: {
      'application/json': {
        schema: ref(call === undefined ? 'SegmentBatch' : 'SegmentMessage'),
        examples: examples(value),
      },
    },
  }
}
