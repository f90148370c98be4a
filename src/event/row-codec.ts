/**
 * Tables as data: one list of columns per table gives the TypeScript row type, the RowBinary writer and reader, and
 * is checked against the DDL. Times are epoch milliseconds in rows, whatever ClickHouse's precision is.
 */
import { type ByteRange, type ByteReader, ByteWriter, viewOf } from './bytes.ts'

/** Our name of a column type → how ClickHouse spells it. */
export const COLUMN_TYPES = {
  uuid: 'UUID',
  string: 'String',
  bytes: 'String',
  lowString: 'LowCardinality(String)',
  bool: 'Bool',
  i8: 'Int8',
  u8: 'UInt8',
  u16: 'UInt16',
  u32: 'UInt32',
  u64: 'UInt64',
  i64: 'Int64',
  dateTimeMs: "DateTime64(3, 'UTC')",
  dateTimeUs: "DateTime64(6, 'UTC')",
  personMode: "Enum8('full' = 0, 'propertyless' = 1, 'force_upgrade' = 2)",
} as const
export type ColumnType = keyof typeof COLUMN_TYPES

export const PERSON_MODES = ['full', 'propertyless', 'force_upgrade'] as const
export type PersonMode = (typeof PERSON_MODES)[number]

type ValueOf<T extends ColumnType> = T extends 'uuid' | 'string' | 'lowString'
  ? string
  : T extends 'bytes'
    ? Uint8Array
    : T extends 'bool'
      ? boolean
      : T extends 'personMode'
        ? PersonMode
        : number

export type Column = { readonly name: string; readonly type: ColumnType; readonly doc: string }

/** The row of a table: column names as on the wire. */
export type RowOf<C extends readonly Column[]> = { [K in C[number] as K['name']]: ValueOf<K['type']> }

export type Table<C extends readonly Column[] = readonly Column[]> = {
  readonly name: string
  readonly columns: C
  /** One RowBinary row as a view. Throws on a value that does not fit its column. */
  encode(row: RowOf<C>): Buffer
  /** The same without a view: the bytes share their memory with those of other rows. */
  pack(row: RowOf<C>): ByteRange
  /** Reads one row at the reader's place. */
  decode(reader: ByteReader): RowOf<C>
}

/** Rows are cut off a shared slab of this size: one allocation for some hundred of them, and nothing is copied out. */
const SLAB_BYTES = 262_144
const shared = new ByteWriter(SLAB_BYTES)

export function defineTable<const C extends readonly Column[]>(name: string, columns: C): Table<C> {
  const names = columns.map((column) => column.name)
  const writers = columns.map((column) => WRITERS[column.type])
  const readers = columns.map((column) => READERS[column.type])
  const pack = (row: RowOf<C>) => {
    const values = row as Record<string, unknown>
    // One that failed half-way left its bytes behind.
    shared.discard()
    for (let i = 0; i < writers.length; i++) writers[i]!(shared, values[names[i]!] as never)
    return shared.cut()
  }
  return {
    name,
    columns,
    encode: (row) => viewOf(pack(row)),
    pack,
    decode(reader) {
      const row: Record<string, unknown> = {}
      for (let i = 0; i < readers.length; i++) row[names[i]!] = readers[i]!(reader)
      return row as RowOf<C>
    },
  }
}

type Writer = (w: ByteWriter, value: never) => void

const WRITERS: Record<ColumnType, Writer> = {
  uuid: (w, value: string) => writeUuid(w, value),
  string: (w, value: string) => w.text(value),
  lowString: (w, value: string) => w.text(value),
  bytes: (w, value: Uint8Array) => {
    w.varint(value.length)
    w.raw(value)
  },
  bool: (w, value: boolean) => w.u8(value ? 1 : 0),
  i8: (w, value: number) => w.u8(value & 255),
  u8: (w, value: number) => w.u8(value),
  u16: (w, value: number) => w.u16(value),
  u32: (w, value: number) => w.u32(value),
  u64: (w, value: number) => w.i64(value),
  i64: (w, value: number) => w.i64(value),
  dateTimeMs: (w, value: number) => w.i64(clampTime(value)),
  dateTimeUs: (w, value: number) => w.i64(clampTime(value) * 1000),
  personMode: (w, value: PersonMode) => w.u8(PERSON_MODES.indexOf(value)),
}

const READERS: Record<ColumnType, (r: ByteReader) => unknown> = {
  uuid: (r) => r.uuidHalves(),
  string: (r) => r.text(),
  lowString: (r) => r.text(),
  bytes: (r) => r.raw(r.varint()),
  bool: (r) => r.u8() === 1,
  i8: (r) => (r.u8() << 24) >> 24,
  u8: (r) => r.u8(),
  u16: (r) => r.u16(),
  u32: (r) => r.u32(),
  u64: (r) => r.i64(),
  i64: (r) => r.i64(),
  dateTimeMs: (r) => r.i64(),
  dateTimeUs: (r) => r.i64() / 1000,
  personMode: (r) => PERSON_MODES[r.u8()],
}

/** What DateTime64 can hold: 1900-01-01 … 2299-12-31. */
const TIME_MS_MIN = Date.UTC(1900, 0, 1)
const TIME_MS_MAX = Date.UTC(2299, 11, 31, 23, 59, 59, 999)

function clampTime(ms: number): number {
  return Math.min(Math.max(ms, TIME_MS_MIN), TIME_MS_MAX)
}

/** ClickHouse keeps a UUID as two little-endian halves. */
function writeUuid(w: ByteWriter, text: string): void {
  if (!w.uuidHalves(text)) throw new TypeError(`"${text}" is not a UUID`)
}
