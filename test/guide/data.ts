/**
 * Six weeks of a shop, generated: visitors who come anonymously, sign up, are recognised, buy, and change. In: how many
 * events. Out: the list of what happened, which is the truth, and the rows that a pipeline would have stored of it.
 * The same number gives the same list.
 */
import type { EventRow, GroupRow, PersonDistinctIdOverrideRow, PersonRow } from '../../src/event/index.ts'
import { plainEventRow } from '../support/event-row.ts'

export const DAY_MS = 86_400_000
/** A Monday. */
export const START_MS = Date.UTC(2026, 9, 5)
export const WEEKS = 6
export const END_MS = START_MS + WEEKS * 7 * DAY_MS

const BROWSERS = ['Chrome', 'Firefox', 'Safari']
const REFERRERS = ['$direct', 'news.example', 'search.example']
const CAMPAIGNS = ['ads', 'mail', '']
const PAGES = ['/', '/pricing', '/docs', '/products/1', '/products/2', '/cart']

/** One event as it happened; `person` is whose it is now. */
export type Happening = {
  event: string
  ms: number
  person: number
  session: string
  page: string
  browser: string
  referrer: string
  campaign: string
  company: string
  amount: number | undefined
  /** Sent before the visitor was recognised, so it was stored under another person. */
  anonymous: boolean
}

export type Person = {
  index: number
  uuid: string
  email: string
  /** At the time of the events, and now. */
  planThen: string
  planNow: string
  deleted: boolean
  recognised: boolean
  company: string
}

export type Shop = { happenings: Happening[]; persons: Person[]; companies: number }

/** Numbers from 0 to 1 that are the same every time. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b_79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

const uuid = (kind: number, n: number) =>
  `${kind.toString(16).padStart(8, '0')}-0000-4000-8000-${n.toString(16).padStart(12, '0')}`

export function openShop(events: number): Shop {
  const random = randomFrom(20_261_123)
  const below = (n: number) => Math.floor(random() * n)
  const pick = <T>(of: readonly T[]) => of[below(of.length)]!
  const happenings: Happening[] = []
  const persons: Person[] = []
  const companies = Math.max(12, Math.floor(events / 400))
  while (happenings.length < events) {
    const index = persons.length
    const person: Person = {
      index,
      uuid: uuid(1, index),
      email: `someone-${String(index).padStart(7, '0')}@example.com`,
      planThen: pick(['free', 'pro']),
      planNow: pick(['free', 'pro', 'team']),
      deleted: below(20) === 0,
      recognised: below(3) > 0,
      // Some companies stay without anybody.
      company: below(2) === 0 ? `company-${below(companies - 3)}` : '',
    }
    persons.push(person)
    visit(person)
  }
  return { happenings, persons, companies }

  /** Everything that one visitor does. Times rise by whole seconds, so that nothing happens at the same time. */
  function visit(person: Person): void {
    const browser = pick(BROWSERS)
    const signsUpIn = person.recognised ? below(2) : -1
    // Some companies go quiet before the last two weeks.
    const quiet = person.company !== '' && Number(person.company.slice(8)) % 4 === 0
    const lastMs = quiet ? END_MS - 15 * DAY_MS : END_MS - DAY_MS / 4
    let ms = START_MS + below(28 * DAY_MS)
    let anonymous = person.recognised
    for (let session = 0, sessions = 1 + below(9); session < sessions && ms < lastMs; session++) {
      const base = {
        person: person.index,
        session: `session-${person.index}-${session}`,
        browser,
        referrer: pick(REFERRERS),
        campaign: pick(CAMPAIGNS),
        company: person.company,
        amount: undefined,
      }
      const add = (event: string, page: string, amount?: number) => {
        happenings.push({ ...base, event, ms, page, amount, anonymous })
        ms += 1_000 * (1 + below(300)) + below(1_000)
      }
      for (let view = 0, views = 1 + below(6); view < views; view++) {
        const page = pick(PAGES)
        add('$pageview', page)
        if (page.startsWith('/products')) add('product viewed', page)
        if (session === signsUpIn && view === 0) {
          anonymous = false
          add('signed up', page)
        }
        if (page === '/cart' && below(3) === 0) add('order paid', page, 5 + below(200))
      }
      ms += DAY_MS / 8 + below(6 * DAY_MS)
    }
  }
}

export function eventRowOf(shop: Shop, offset: number): EventRow {
  const it = shop.happenings[offset]!
  const person = shop.persons[it.person]!
  return plainEventRow({
    uuid: uuid(2, offset),
    event: it.event,
    properties: JSON.stringify({
      $pathname: it.page,
      $browser: it.browser,
      $referring_domain: it.referrer,
      $session_id: it.session,
      ...(it.campaign === '' ? {} : { utm_source: it.campaign }),
      ...(it.company === '' ? {} : { $group_0: it.company }),
      ...(it.amount === undefined ? {} : { amount: it.amount }),
    }),
    timestamp: it.ms,
    created_at: it.ms + 50,
    distinct_id: it.anonymous || !person.recognised ? `device-${it.person}` : person.email,
    person_id: it.anonymous ? uuid(3, it.person) : person.uuid,
    person_properties: JSON.stringify({ plan: person.planThen }),
    _offset: offset,
  })
}

/** As the person is, with an older version under it; `undefined` when there never was one. */
export function personRowsOf(shop: Shop): PersonRow[] {
  return shop.persons.flatMap((person) => {
    const row = (version: number, plan: string, deleted: boolean): PersonRow => ({
      id: person.uuid,
      created_at: START_MS,
      team_id: 1,
      properties: JSON.stringify({ email: person.email, plan }),
      is_identified: person.recognised ? 1 : 0,
      is_deleted: deleted ? 1 : 0,
      version,
    })
    return [row(2, person.planNow, person.deleted), row(1, person.planThen, false)]
  })
}

export function overrideRowsOf(shop: Shop): PersonDistinctIdOverrideRow[] {
  return shop.persons
    .filter(({ recognised }) => recognised)
    .map((person) => ({
      team_id: 1,
      distinct_id: `device-${person.index}`,
      person_id: person.uuid,
      is_deleted: 0,
      version: 1,
    }))
}

export function groupRowsOf(shop: Shop): GroupRow[] {
  return Array.from({ length: shop.companies }, (_, n) => n).flatMap((n) =>
    [1, 2].map((version) => ({
      group_type_index: 0,
      group_key: `company-${n}`,
      created_at: START_MS,
      team_id: 1,
      group_properties: JSON.stringify({ name: companyName(n, version) }),
      _version: version,
    })),
  )
}

/** Companies were renamed once. */
export function companyName(n: number, version = 2): string {
  return version === 2 ? `Company ${n} Ltd` : `Company ${n}`
}
