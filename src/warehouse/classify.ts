/**
 * What an error of ClickHouse, or of the way to it, means for the caller. Pure. By ClickHouse's own codes, with their
 * names (`errorCodeToName`); only the ones listed are judged, any other answer to an insert is ours to look at.
 */
import { ClickHouseError } from '@clickhouse/client'
import { HeadraceError } from '../event/index.ts'
import { warehouseError } from './errors.ts'

/** Time-outs, limits of the moment, damaged disks, replicas, Keeper, shutdown: wait and try again. */
const UNAVAILABLE = codes(`
  TIMEOUT_EXCEEDED:159 TOO_SLOW:160 SOCKET_TIMEOUT:209 NETWORK_ERROR:210 DNS_ERROR:198 CANNOT_READ_FROM_SOCKET:95
  CANNOT_WRITE_TO_SOCKET:96 ALL_CONNECTION_TRIES_FAILED:279 NO_FREE_CONNECTION:203
  EXTERNAL_SERVER_IS_NOT_RESPONDING:410 TOO_MANY_SIMULTANEOUS_QUERIES:202 QUOTA_EXCEEDED:201 LIMIT_EXCEEDED:290
  RESOURCE_LIMIT_EXCEEDED:776 SERVER_OVERLOADED:745 USER_SESSION_LIMIT_EXCEEDED:700 TCP_CONNECTION_LIMIT_REACHED:749
  HTTP_CONNECTION_LIMIT_REACHED:762 RECEIVED_ERROR_TOO_MANY_REQUESTS:364 CANNOT_SCHEDULE_TASK:439
  TOO_MANY_MUTATIONS:692 DISTRIBUTED_TOO_MANY_PENDING_BYTES:574 CHECKSUM_DOESNT_MATCH:40 CANNOT_OPEN_FILE:76
  CANNOT_CREATE_FILE:586 CANNOT_CREATE_DIRECTORY:172 CANNOT_FSYNC:204 CANNOT_READ_FROM_FILE_DESCRIPTOR:74
  CANNOT_WRITE_TO_FILE_DESCRIPTOR:75 FILE_DOESNT_EXIST:107 S3_ERROR:499 AZURE_BLOB_STORAGE_ERROR:500
  NO_ZOOKEEPER:225 UNEXPECTED_ZOOKEEPER_ERROR:244 KEEPER_EXCEPTION:999 RAFT_ERROR:568 NOT_A_LEADER:529
  NO_ACTIVE_REPLICAS:254 NO_AVAILABLE_REPLICA:265 ALL_REPLICAS_LOST:415 REPLICA_STATUS_CHANGED:416
  SHARD_HAS_NO_CONNECTIONS:297 NO_REMOTE_SHARD_AVAILABLE:519 TOO_MANY_UNAVAILABLE_SHARDS:904
  TOO_FEW_LIVE_REPLICAS:285 UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE:286 UNKNOWN_STATUS_OF_INSERT:319
  UNKNOWN_STATUS_OF_TRANSACTION:659 UNFINISHED:341 ABORTED:236 QUERY_WAS_CANCELLED:394
  QUERY_WAS_CANCELLED_BY_CLIENT:735 THREAD_WAS_CANCELED:677 DEADLOCK_AVOIDED:473 TABLE_IS_BEING_RESTARTED:733
  PART_IS_LOCKED:738 PART_IS_TEMPORARILY_LOCKED:384 ASYNC_LOAD_WAIT_FAILED:722 ASYNC_LOAD_CANCELED:696
  SYSTEM_ERROR:425 POCO_EXCEPTION:1000 STD_EXCEPTION:1001 UNKNOWN_EXCEPTION:1002`)
/** It answers questions and takes no rows. */
const READ_ONLY = codes(`
  READONLY:164 TABLE_IS_READ_ONLY:242 TABLE_IS_PERMANENTLY_READ_ONLY:774`)
/** Merges lag behind. */
const TOO_MANY_PARTS = codes(`
  TOO_MANY_PARTS:252`)
/** Of this insert, of the server, or of the machine. */
const OUT_OF_MEMORY = codes(`
  MEMORY_LIMIT_EXCEEDED:241 CANNOT_ALLOCATE_MEMORY:173 CANNOT_MREMAP:240 MEMORY_RESERVATION_KILLED:777
  MEMORY_RESERVATION_FAILED:778`)
const DISK_FULL = codes(`
  NOT_ENOUGH_SPACE:243`)
/** Who we are or what we may do. */
const DENIED = codes(`
  UNKNOWN_USER:192 WRONG_PASSWORD:193 REQUIRED_PASSWORD:194 IP_ADDRESS_NOT_ALLOWED:195 DATABASE_ACCESS_DENIED:291
  ACCESS_DENIED:497 AUTHENTICATION_FAILED:516 USER_EXPIRED:720`)
/** A table, column or database that our migrations make. */
const SCHEMA_BEHIND = codes(`
  UNKNOWN_TABLE:60 UNKNOWN_DATABASE:81 TABLE_IS_DROPPED:218 NO_SUCH_COLUMN_IN_TABLE:16 THERE_IS_NO_COLUMN:8`)
/** The bytes do not parse, do not fit their columns, or break a constraint. */
const ROWS_REFUSED = codes(`
  CANNOT_PARSE_TEXT:6 CANNOT_PARSE_ESCAPE_SEQUENCE:25 CANNOT_PARSE_QUOTED_STRING:26
  CANNOT_PARSE_INPUT_ASSERTION_FAILED:27 CANNOT_PARSE_DATE:38 CANNOT_PARSE_DATETIME:41 CANNOT_PARSE_NUMBER:72
  CANNOT_PARSE_UUID:376 CANNOT_PARSE_BOOL:467 ATTEMPT_TO_READ_AFTER_EOF:32 CANNOT_READ_ALL_DATA:33
  UNEXPECTED_END_OF_FILE:3 UNEXPECTED_DATA_AFTER_PARSED_VALUE:632 INCORRECT_DATA:117 BAD_ARGUMENTS:36
  TYPE_MISMATCH:53 CANNOT_CONVERT_TYPE:70 ARGUMENT_OUT_OF_BOUND:69 VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE:321
  DECIMAL_OVERFLOW:407 UNKNOWN_ELEMENT_OF_ENUM:691 CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN:349
  TOO_LARGE_STRING_SIZE:131 TOO_LARGE_ARRAY_SIZE:128 SIZES_OF_ARRAYS_DONT_MATCH:190 VIOLATED_CONSTRAINT:469
  UNICODE_ERROR:760`)

function codes(list: string): ReadonlyMap<number, string> {
  return new Map(
    list
      .trim()
      .split(/\s+/)
      .map((item) => item.split(':') as [string, string])
      .map(([name, code]) => [Number(code), name]),
  )
}

/** In both kinds of calls. */
const WORLD = [
  [UNAVAILABLE, 'HR_WAREHOUSE_UNAVAILABLE'],
  [READ_ONLY, 'HR_WAREHOUSE_READ_ONLY'],
  [TOO_MANY_PARTS, 'HR_WAREHOUSE_TOO_MANY_PARTS'],
  [OUT_OF_MEMORY, 'HR_WAREHOUSE_OUT_OF_MEMORY'],
  [DISK_FULL, 'HR_WAREHOUSE_DISK_FULL'],
  [DENIED, 'HR_WAREHOUSE_DENIED'],
  [SCHEMA_BEHIND, 'HR_WAREHOUSE_SCHEMA_BEHIND'],
] as const

/** Every code that is judged, with its name; a test asks the engine whether they are its own. */
export const JUDGED: ReadonlyMap<number, string> = new Map([
  ...WORLD.flatMap(([codes]) => [...codes]),
  ...ROWS_REFUSED,
])

export type Doing = 'insert' | 'query'

/** The HeadraceError for whatever a call to ClickHouse threw; one that is already ours passes. */
export function classify(error: unknown, doing: Doing, what: string): HeadraceError {
  if (error instanceof HeadraceError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (!(error instanceof ClickHouseError))
    return warehouseError('HR_WAREHOUSE_UNAVAILABLE', `${what}: ClickHouse did not answer: ${text}`, error)
  const code = Number(error.code)
  // The client's name of it is a guess from the message, where a value of ours may stand before it.
  const name = JUDGED.get(code) ?? error.type ?? ''
  const sentence = `${what}: ClickHouse says ${code} ${name}: ${text}`
  // The same name as "merges lag behind", but no waiting helps.
  if (TOO_MANY_PARTS.has(code) && text.includes('partitions for single INSERT block'))
    return warehouseError('HR_WAREHOUSE_TOO_MANY_MONTHS', sentence, error)
  const world = WORLD.find(([codes]) => codes.has(code))
  if (world) return warehouseError(world[1], sentence, error)
  if (doing === 'query') return warehouseError('HR_WAREHOUSE_QUERY_REFUSED', sentence, error)
  if (ROWS_REFUSED.has(code)) return warehouseError('HR_WAREHOUSE_REFUSED', sentence, error)
  return warehouseError('HR_WAREHOUSE_UNEXPECTED', sentence, error)
}
