/**
 * The answers to the questions of docs/guides/querying.md, counted from the list of what happened, without SQL. In: the
 * shop. Out: per question the rows that the guide's SQL must give, in its order.
 */
import { companyName, DAY_MS, END_MS, type Happening, type Shop, START_MS } from './data.ts'

type Row = Record<string, string | number>
const WEEK_MS = 7 * DAY_MS

const day = (ms: number) => new Date(Math.floor(ms / DAY_MS) * DAY_MS).toISOString().slice(0, 10)
/** START_MS is a Monday. */
const weekIndex = (ms: number) => Math.floor((ms - START_MS) / WEEK_MS)
const weekDay = (index: number) => day(START_MS + index * WEEK_MS)
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
const mean = (values: readonly number[]) => sum(values) / values.length
/** Of an even number of values the higher middle one, as ClickHouse's exact median. */
const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!
const seconds = (fromMs: number, toMs: number) => Math.floor(toMs / 1000) - Math.floor(fromMs / 1000)

function groupBy<T, K>(items: Iterable<T>, key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const of = key(item)
    const group = groups.get(of)
    if (group) group.push(item)
    else groups.set(of, [item])
  }
  return groups
}

const compare = (a: string | number, b: string | number) => (a < b ? -1 : a > b ? 1 : 0)
/** Sorts by the columns; a `-` before a name turns its order round. */
function sorted(rows: Row[], ...by: string[]): Row[] {
  return rows.sort((a, b) => {
    for (const name of by) {
      const down = name.startsWith('-')
      const column = down ? name.slice(1) : name
      const order = compare(a[column]!, b[column]!)
      if (order !== 0) return down ? -order : order
    }
    return 0
  })
}

const SEPARATOR = '\n'
/** How many items there are of each combination of keys. */
function counted<T>(
  items: Iterable<T>,
  names: readonly string[],
  keys: (item: T) => (string | number)[],
  as: string,
): Row[] {
  return [...groupBy(items, (item) => keys(item).join(SEPARATOR))].map(([, group]) => ({
    ...Object.fromEntries(keys(group[0]!).map((value, i) => [names[i]!, value])),
    [as]: group.length,
  }))
}

export function truthOf(shop: Shop): Record<string, () => Row[]> {
  const all = shop.happenings.filter(({ ms }) => ms >= START_MS && ms < END_MS)
  const named = (...names: string[]) => all.filter(({ event }) => names.includes(event))
  const views = named('$pageview')
  const orders = named('order paid')
  const byPerson = groupBy(all, ({ person }) => person)
  const bySession = groupBy(all, ({ session }) => session)
  const viewsBySession = groupBy(views, ({ session }) => session)
  const personsIn = (items: readonly Happening[]) => new Set(items.map(({ person }) => person)).size
  const amounts = (items: readonly Happening[]) => items.map(({ amount }) => amount!)
  const weeksOf = (items: readonly Happening[]) =>
    [...new Set(items.map(({ ms }) => weekIndex(ms)))].sort((a, b) => a - b)
  const pairs = (items: readonly Happening[]) =>
    items.slice(1).map((next, i) => [items[i]!.page, next.page] as const)

  return {
    trend: () =>
      sorted(
        counted(views, ['day'], ({ ms }) => [day(ms)], 'events'),
        'day',
      ),

    'unique persons': () =>
      [...groupBy(all, ({ ms }) => weekIndex(ms))]
        .sort(([a], [b]) => a - b)
        .map(([week, items]) => ({ week: weekDay(week), persons: personsIn(items) })),

    'trend by property': () =>
      sorted(
        counted(views, ['week', 'browser'], ({ ms, browser }) => [weekDay(weekIndex(ms)), browser], 'views'),
        'week',
        'browser',
      ),

    'revenue by plan': () =>
      sorted(
        [...groupBy(orders, ({ person }) => shop.persons[person]!.planThen)].map(([plan, items]) => ({
          plan,
          revenue: sum(amounts(items)),
          order_value: mean(amounts(items)),
        })),
        'plan',
      ),

    'revenue by current plan': () =>
      sorted(
        [
          ...groupBy(orders, ({ person }) =>
            shop.persons[person]!.deleted ? '' : shop.persons[person]!.planNow,
          ),
        ].map(([plan, items]) => ({ plan, revenue: sum(amounts(items)) })),
        'plan',
      ),

    funnel: () => {
      const reached = [0, 0, 0]
      for (const items of byPerson.values()) {
        let best = 0
        for (const start of items.filter(({ event }) => event === 'signed up')) {
          const within = items.filter(({ ms }) => ms > start.ms && ms <= start.ms + WEEK_MS)
          const viewed = within.find(({ event }) => event === 'product viewed')
          const paid = viewed && within.find(({ event, ms }) => event === 'order paid' && ms > viewed.ms)
          best = Math.max(best, paid ? 3 : viewed ? 2 : 1)
        }
        for (let step = 0; step < best; step++) reached[step]!++
      }
      return [{ signed_up: reached[0]!, viewed: reached[1]!, paid: reached[2]! }]
    },

    'time to convert': () => {
      const took: number[] = []
      for (const items of byPerson.values()) {
        const signedUp = items.find(({ event }) => event === 'signed up')
        const paid = signedUp && items.find(({ event, ms }) => event === 'order paid' && ms > signedUp.ms)
        if (paid) took.push(seconds(signedUp.ms, paid.ms))
      }
      return [{ persons: took.length, median_seconds: median(took) }]
    },

    retention: () => {
      const cells = [...byPerson.values()].flatMap((items) => {
        const weeks = weeksOf(items)
        return weeks.map((week) => [weeks[0]!, week - weeks[0]!] as const)
      })
      return sorted(
        counted(cells, ['cohort', 'weeks_later'], ([cohort, later]) => [weekDay(cohort), later], 'persons'),
        'cohort',
        'weeks_later',
      )
    },

    lifecycle: () => {
      const states: (readonly [number, string])[] = []
      for (const items of byPerson.values()) {
        const weeks = new Set(weeksOf(items))
        const first = Math.min(...weeks)
        for (let week = 0; START_MS + week * WEEK_MS < END_MS; week++) {
          const here = weeks.has(week)
          const before = weeks.has(week - 1)
          if (here) states.push([week, week === first ? 'new' : before ? 'returning' : 'resurrected'])
          else if (before) states.push([week, 'dormant'])
        }
      }
      return sorted(
        counted(states, ['week', 'status'], ([week, status]) => [weekDay(week), status], 'persons'),
        'week',
        'status',
      )
    },

    stickiness: () => {
      const week = groupBy(
        all.filter(({ ms }) => weekIndex(ms) === 2),
        ({ person }) => person,
      )
      const days = [...week.values()].map((items) => new Set(items.map(({ ms }) => day(ms))).size)
      return sorted(
        counted(days, ['days'], (count) => [count], 'persons'),
        'days',
      )
    },

    'rolling week': () => {
      const rows: Row[] = []
      const byDay = groupBy(all, ({ ms }) => day(ms))
      for (let ms = START_MS; ms < END_MS; ms += DAY_MS) {
        const active = new Set<number>()
        for (let back = 0; back < 7; back++)
          for (const { person } of byDay.get(day(ms - back * DAY_MS)) ?? []) active.add(person)
        if (active.size > 0) rows.push({ until: day(ms), persons: active.size })
      }
      return rows
    },

    'session length': () => {
      const sessions = [...bySession.values()].map((items) => ({
        from: items[0]!.ms,
        long: seconds(items[0]!.ms, items.at(-1)!.ms),
      }))
      return sorted(
        [...groupBy(sessions, ({ from }) => day(from))].map(([of, group]) => ({
          day: of,
          sessions: group.length,
          mean_seconds: mean(group.map(({ long }) => long)),
          median_seconds: median(group.map(({ long }) => long)),
        })),
        'day',
      )
    },

    bounces: () =>
      sorted(
        [...groupBy(viewsBySession.values(), (items) => items[0]!.referrer)].map(([referrer, sessions]) => ({
          referrer,
          sessions: sessions.length,
          bounced: sessions.filter((items) => items.length === 1).length,
        })),
        'referrer',
      ),

    'entry and exit': () =>
      sorted(
        counted(
          viewsBySession.values(),
          ['entry', 'exit'],
          (items) => [items[0]!.page, items.at(-1)!.page],
          'sessions',
        ),
        '-sessions',
        'entry',
        'exit',
      ).slice(0, 10),

    paths: () =>
      sorted(
        counted(
          [...viewsBySession.values()].flatMap(pairs).filter(([page, next]) => page !== next),
          ['page', 'next_page'],
          (pair) => [...pair],
          'times',
        ),
        '-times',
        'page',
        'next_page',
      ).slice(0, 10),

    'first touch': () => {
      const buyers = [...byPerson.values()].filter((items) =>
        items.some(({ event }) => event === 'order paid'),
      )
      return sorted(
        [...groupBy(buyers, (items) => items[0]!.referrer)].map(([source, group]) => ({
          source,
          persons: group.length,
          revenue: sum(group.flat().flatMap(({ amount }) => amount ?? [])),
        })),
        'source',
      )
    },

    'last touch': () => {
      const touched = [...byPerson.values()].flatMap((items) => {
        let source = ''
        return items.flatMap((item) => {
          if (item.campaign !== '') source = item.campaign
          return item.event === 'order paid' ? [{ source, amount: item.amount! }] : []
        })
      })
      return sorted(
        [...groupBy(touched, ({ source }) => source)].map(([source, group]) => ({
          source,
          orders: group.length,
          revenue: sum(group.map(({ amount }) => amount)),
        })),
        'source',
      )
    },

    'group usage': () =>
      sorted(
        [
          ...groupBy(
            all.filter(({ company }) => company !== ''),
            ({ company }) => company,
          ),
        ].map(([company, items]) => ({
          company,
          name: companyName(Number(company.slice('company-'.length))),
          events: items.length,
          persons: personsIn(items),
        })),
        '-events',
        'company',
      ).slice(0, 10),

    'quiet groups': () => {
      const heard = new Set(all.filter(({ ms }) => ms >= END_MS - 2 * WEEK_MS).map(({ company }) => company))
      const rows = Array.from({ length: shop.companies }, (_, n) => ({
        company: `company-${n}`,
        name: companyName(n),
      }))
      return sorted(
        rows.filter(({ company }) => !heard.has(company)),
        'company',
      )
    },

    'never paid': () => {
      const emails = shop.persons.flatMap(({ index, deleted, email }) => {
        const did = new Set(byPerson.get(index)?.map(({ event }) => event))
        return !deleted && did.has('signed up') && !did.has('order paid') ? [{ email }] : []
      })
      return sorted(emails, 'email').slice(0, 20)
    },
  }
}
