/**
 * Transformations: CPU per event of 1.2 kB in batches of 1,000, of user code by what it does, of a chain of three, and of
 * each built-in. `JSON in JavaScriptCore` is the measure of the machine's mood. One process, one thread; the bottleneck is its core. `--events` (default 20,000 per row); `--only chain`: the rows that are called so. The rows are run in turns, three times,
 * and the cheapest turn of each counts.
 */
import {
  type ChainStep,
  compileTransformation,
  hmacSha256,
  openGeoip,
  openSet,
  parseSet,
  runChain,
  Sandbox,
  type TransformEvent,
} from '../src/transform/index.ts'
import { report } from './measure.ts'

const BATCH = 1_000
const TURNS = 3
const given = process.argv.indexOf('--events')
const EVENTS = given < 0 ? 20_000 : Number(process.argv[given + 1])
const onlyAt = process.argv.indexOf('--only')
const only = onlyAt < 0 ? '' : process.argv[onlyAt + 1]!

const HELPERS = {
  geoip: () => null,
  isBot: (userAgent: string) => /bot/i.test(userAgent),
  hash: hmacSha256('a key'),
  lookup: () => null,
}

/** What takes nothing but the crossing, each with more than the one before it. */
const SOURCES = {
  'drops, properties unread': 'export default (event) => null',
  'returns what it was given': 'export default (event) => event',
  'masks an address': `export default (event) => {
    const { properties } = event
    delete properties.$ip
    properties.$current_url = String(properties.$current_url).split('?')[0]
    return event
  }`,
  'renames and adds': `export default (event) => {
    if (event.event === '$pageview') event.properties.section = event.properties.$pathname?.split('/')[1] ?? ''
    event.properties.plan ??= 'free'
    return event
  }`,
  'drops bots': `export default (event) => (/bot|crawl/i.test(event.properties.$user_agent ?? '') ? null : event)`,
  'hashes an address (one helper call)': `export default (event, { hash }) => {
    event.properties.email_hash = hash(event.properties.email)
    delete event.properties.email
    return event
  }`,
}

function eventOf(number: number): TransformEvent {
  const properties: TransformEvent['properties'] = {
    $current_url: `https://example.com/products/${number}?utm_source=letter&utm_medium=mail`,
    $pathname: `/products/${number}`,
    $ip: '203.0.113.7',
    $user_agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
    email: `visitor-${number}@example.com`,
  }
  for (let i = 0; i < 26; i++)
    properties[`$property_${i}`] = i % 3 ? `a value of ${i * number}` : (i * number) / 8
  return {
    uuid: `01890000-0000-7000-8000-${String(number).padStart(12, '0')}`,
    event: '$pageview',
    distinctId: `visitor-${number}`,
    timestampMs: 1_764_000_000_000 + number,
    properties,
  }
}

const events = Array.from({ length: BATCH }, (_, i) => eventOf(i))
const bytes = events.reduce((sum, event) => sum + JSON.stringify(event.properties).length, 0) / BATCH
console.log(`properties of ${Math.round(bytes)} bytes, batches of ${BATCH}`)

const steps: Record<string, ChainStep> = {}
for (const [name, source] of Object.entries(SOURCES)) {
  const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS)
  steps[name] = { name, policy: 'quarantine', run: (batch) => sandbox.run(batch) }
}
/** Each with options that give it something to do on these events. */
const BUILT_INS: Record<string, Record<string, unknown>> = {
  geoip: {},
  'user-agent': { overwrite: true },
  bots: { action: 'drop', addresses: ['198.51.100.0/24'] },
  'anonymise-ip': {},
  hash: { properties: ['email'] },
  mask: { properties: ['email', '$user_agent'] },
  'normalise-urls': {},
  'mask-url-parameters': { parameters: ['utm_source'] },
  'remove-properties': { properties: ['email', '$ip'] },
  'keep-properties': { properties: ['email'] },
  'rename-properties': { names: { email: 'mail' } },
  'property-types': { types: { $property_0: 'string' } },
  filter: { conditions: [{ property: 'email', operator: 'ends_with', value: '@example.org' }] },
  sample: { share: 0.5 },
  flatten: {},
  'parse-timestamps': { properties: ['$property_0'], parts: true },
  'first-touch': { properties: ['$pathname', 'email'] },
  'name-style': { style: 'kebab-case' },
  'rename-events': { names: { $pageview: 'seen' } },
  schema: {
    events: {
      $pageview: {
        type: 'object',
        required: ['email'],
        properties: { email: { type: 'string', format: 'email' } },
      },
    },
  },
}

const database = process.argv.indexOf('--geoip')
const geoip =
  database < 0
    ? () => ({ country_code: 'NL', city_name: 'Delft', latitude: 52 })
    : openGeoip(process.argv[database + 1]!)
const rows: Record<string, ChainStep[]> = { 'no transformation': [] }
for (const [use, options] of Object.entries(BUILT_INS)) {
  const set = await openSet(parseSet({ steps: [{ name: use, use, options }] }), { key: 'a key', geoip })
  rows[use] = [...set.steps]
}
// A step whose only work is the reference.
rows['JSON in JavaScriptCore'] = [
  {
    name: 'reference',
    policy: 'quarantine',
    apply: (event) => {
      JSON.parse(JSON.stringify(event.properties))
      return event
    },
  },
]
for (const [name, step] of Object.entries(steps)) rows[name] = [step]
const THREE = ['masks an address', 'renames and adds', 'drops bots'] as const
const three = THREE.map((name, i) => ({ name: `step-${i}`, source: SOURCES[name] }))
rows['chain of three'] = [...(await openSet(parseSet({ steps: three }), { key: 'a key', geoip })).steps]
rows['chain of three, each step for itself'] = THREE.map((name) => steps[name]!)

const best = new Map<string, { us: number; seconds: number }>()
for (let turn = 0; turn <= TURNS; turn++)
  for (const [name, chain] of Object.entries(rows)) {
    if (!name.includes(only)) continue
    const began = performance.now()
    const cpu = process.cpuUsage()
    for (let done = 0; done < EVENTS; done += BATCH) await runChain(chain, events)
    const { user, system } = process.cpuUsage(cpu)
    const us = (user + system) / EVENTS
    // The first turn warms up.
    if (turn > 0 && us < (best.get(name)?.us ?? Number.POSITIVE_INFINITY))
      best.set(name, { us, seconds: (performance.now() - began) / 1000 })
  }
report(
  ...[...best].map(([name, { us, seconds }]) => ({
    name: `transform: ${name}`,
    eventsPerSecond: EVENTS / seconds,
    cpuUs: { transform: us },
    bottleneck: 'the core of the sandbox',
  })),
)
process.exit()
