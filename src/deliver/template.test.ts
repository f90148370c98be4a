import { expect, test } from 'bun:test'
import { compileTemplate } from './template.ts'

const FIELDS = {
  event: 'paid',
  properties: { amount: 12, 'a.b': 'dotted', cart: { n: 1 } },
  person: { properties: {} },
}

test.each([
  ['{event}', 'paid'],
  ['{properties.amount}', 12],
  ['{properties.a.b}', 'dotted'],
  ['{properties.cart}', { n: 1 }],
  ['{properties.none}', undefined],
  ['it was {event} for {properties.amount}{properties.none}', 'it was paid for 12'],
  ['cart {properties.cart}', 'cart {"n":1}'],
  ['{{event}', '{event}'],
  ['{properties.constructor}', undefined],
  [
    { a: '{event}', b: '{properties.none}', c: [1, '{properties.amount}', '{properties.none}'] },
    { a: 'paid', c: [1, 12] },
  ],
  [null, null],
])('%j', (template, made) => {
  expect(compileTemplate(template)(FIELDS)).toEqual(made as never)
})

test('is not nested without end', () => {
  let deep: unknown = 'x'
  for (let i = 0; i < 30; i++) deep = [deep]
  expect(() => compileTemplate(deep)).toThrow('20 levels')
})
