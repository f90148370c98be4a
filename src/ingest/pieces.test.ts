import { expect, test } from 'bun:test'
import { piecesOf } from './pieces.ts'

/** A record whose header and value take `bytes` together. */
const record = (bytes: number) => ({
  topic: 't',
  partition: 0,
  header: new Uint8Array(1),
  value: new Uint8Array(bytes - 1),
})

test.each([
  ['nothing', [], []],
  ['all at once when it fits', [4, 4, 2], [[4, 4, 2]]],
  ['a piece ends before what would pass the limit', [4, 4, 3, 7, 1], [[4, 4], [3, 7], [1]]],
  ['one that is larger goes alone', [1, 30, 1], [[1], [30], [1]]],
  ['the first one is larger', [30, 1], [[30], [1]]],
])('%s', (_, sizes, pieces) => {
  const sent = [...piecesOf(sizes.map(record), 10)]
  expect(sent.map((piece) => piece.map(({ header, value }) => header.length + value.length))).toEqual(pieces)
})
