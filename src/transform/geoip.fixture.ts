/** A database in MaxMind's format with one network in it, written to a file. */
import { writeFileSync } from 'node:fs'

type Value = string | number | { [key: string]: Value } | Value[]

const STRING = 2
const DOUBLE = 3
const UINT32 = 6
const MAP = 7
const ARRAY = 11

function control(type: number, size: number): Buffer {
  const low = Math.min(size, 29)
  const first = type <= 7 ? [(type << 5) | low] : [low, type - 7]
  return Buffer.from(size < 29 ? first : [...first, size - 29])
}

function encode(value: Value): Buffer {
  if (typeof value === 'string')
    return Buffer.concat([control(STRING, Buffer.byteLength(value)), Buffer.from(value)])
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(Number.isInteger(value) ? 4 : 8)
    if (Number.isInteger(value)) bytes.writeUInt32BE(value)
    else bytes.writeDoubleBE(value)
    return Buffer.concat([control(Number.isInteger(value) ? UINT32 : DOUBLE, bytes.length), bytes])
  }
  if (Array.isArray(value)) return Buffer.concat([control(ARRAY, value.length), ...value.map(encode)])
  const entries = Object.entries(value)
  return Buffer.concat([
    control(MAP, entries.length),
    ...entries.flatMap(([key, inner]) => [encode(key), encode(inner)]),
  ])
}

/** `bits` of the IPv4 `address` lead to `record`, all else to nothing. */
export function writeGeoip(path: string, address: number[], bits: number, record: Value): void {
  const nodes = Buffer.alloc(bits * 6)
  for (let depth = 0; depth < bits; depth++) {
    const bit = (address[depth >> 3]! >> (7 - (depth & 7))) & 1
    const next = depth + 1 < bits ? depth + 1 : bits + 16
    nodes.writeUIntBE(bit ? bits : next, depth * 6, 3)
    nodes.writeUIntBE(bit ? next : bits, depth * 6 + 3, 3)
  }
  const metadata = encode({
    node_count: bits,
    record_size: 24,
    ip_version: 4,
    database_type: 'Test-City',
    languages: ['en'],
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_700_000_000,
    description: { en: 'test' },
  })
  const marker = Buffer.concat([Buffer.from([0xab, 0xcd, 0xef]), Buffer.from('MaxMind.com')])
  writeFileSync(path, Buffer.concat([nodes, Buffer.alloc(16), encode(record), marker, metadata]))
}
