import { describe, expect, test } from 'bun:test'
import { plainEventRow } from '../../test/support/event-row.ts'
import { EVENTS, NIL_UUID } from '../event/index.ts'
import { EventView } from './event-view.ts'
import { type Condition, compileWhere, readFilter } from './filter.ts'

const PROPERTIES = {
  amount: 12.5,
  text: 'Hello World',
  count: '7',
  yes: true,
  nothing: null,
  empty: '',
  list: ['a', 'b'],
  cart: { items: [{ sku: 'x1' }] },
  'with.dots': 1,
  __proto__x: 1,
}
const row = plainEventRow({
  properties: JSON.stringify(PROPERTIES),
  person_properties: JSON.stringify({ plan: 'pro' }),
})
const view = () => new EventView(EVENTS.encode(row), { logId: NIL_UUID, partition: 0, offset: 0, sub: 0 }, 1)

/** Condition, and whether it holds. */
const CASES: [Condition, boolean][] = [
  [{ key: 'amount', is: 'exact', value: 12.5 }, true],
  [{ key: 'amount', is: 'exact', value: '12.5' }, true],
  [{ key: 'amount', is: 'exact', value: [1, 12.5] }, true],
  [{ key: 'amount', is: 'exact', value: 12 }, false],
  [{ key: 'yes', is: 'exact', value: 'true' }, true],
  [{ key: 'list', is: 'exact', value: 'b' }, true],
  [{ key: 'list', is: 'is_not', value: 'b' }, false],
  [{ key: 'absent', is: 'exact', value: 'x' }, false],
  [{ key: 'absent', is: 'is_not', value: 'x' }, true],
  [{ key: 'text', is: 'icontains', value: 'WORLD' }, true],
  [{ key: 'text', is: 'not_icontains', value: 'mars' }, true],
  [{ key: 'absent', is: 'icontains', value: '' }, false],
  [{ key: 'amount', is: 'gt', value: 12 }, true],
  [{ key: 'amount', is: 'gt', value: 12.5 }, false],
  [{ key: 'amount', is: 'gte', value: 12.5 }, true],
  [{ key: 'count', is: 'lt', value: 10 }, true],
  [{ key: 'count', is: 'lte', value: '7' }, true],
  [{ key: 'text', is: 'gt', value: 1 }, false],
  [{ key: 'nothing', is: 'lt', value: 1 }, false],
  [{ key: 'nothing', is: 'is_set' }, false],
  [{ key: 'empty', is: 'is_not_set' }, true],
  [{ key: 'yes', is: 'is_set' }, true],
  [{ key: 'cart.items.0.sku', is: 'exact', value: 'x1' }, true],
  [{ key: 'cart.items.1.sku', is: 'is_set' }, false],
  [{ key: 'with.dots', is: 'exact', value: 1 }, true],
  [{ key: 'constructor', is: 'is_set' }, false],
  [{ key: 'cart.constructor.name', is: 'is_set' }, false],
  [{ on: 'person', key: 'plan', is: 'exact', value: 'pro' }, true],
  [{ on: 'person', key: 'amount', is: 'is_set' }, false],
]

describe('conditions', () => {
  test.each(CASES)('%j is %p', (condition, holds) => {
    expect(compileWhere(readFilter({ where: [condition] }))!(view())).toBe(holds)
  })

  test('all must hold', () => {
    const both = compileWhere(readFilter({ where: [CASES[0]![0], CASES[3]![0]] }))!
    expect(both(view())).toBe(false)
  })

  test('properties that are no object have no values', () => {
    const odd = new EventView(EVENTS.encode({ ...row, properties: '[1' }), view().source, 1)
    expect(compileWhere({ where: [{ key: 'amount', is: 'is_set' }] })!(odd)).toBe(false)
  })
})

describe('readFilter refuses', () => {
  test.each([
    [[], 'filter must be an object'],
    [{ event: ['x'] }, 'filter has "event", which nobody knows'],
    [{ events: [] }, 'filter.events must be a list of 1 to 1000 event names'],
    [{ events: [1] }, 'filter.events must be a list'],
    [{ where: {} }, 'filter.where must be a list'],
    [{ where: [{ key: '', is: 'is_set' }] }, 'filter.where[0].key must be the name of a property'],
    [
      { where: [{ key: 'a', is: 'regex', value: '.*' }] },
      'filter.where[0].is is "regex"; allowed is one of exact',
    ],
    [{ where: [{ key: 'a', is: 'exact' }] }, 'filter.where[0].value must be'],
    [{ where: [{ key: 'a', is: 'gt', value: 'x' }] }, 'filter.where[0].value must be one number'],
    [{ where: [{ key: 'a', is: 'is_set', on: 'group' }] }, 'filter.where[0].on must be event or person'],
  ])('%j', (input, sentence) => {
    expect(() => readFilter(input)).toThrow(sentence)
  })
})
