/**
 * What an error of ClickHouse, or of the way to it, means for the caller. Pure. The names are ClickHouse's own
 * (`errorCodeToName`); only the ones listed are judged, any other answer to an insert is ours to look at.
 */
import { ClickHouseError } from '@clickhouse/client'
import { HeadraceError } from '../event/index.ts'
import { warehouseError } from './errors.ts'

/** Time-outs, limits of the moment, damaged disks, replicas, Keeper, shutdown: wait and try again. */
const UNAVAILABLE = names(`
  TIMEOUT_EXCEEDED TOO_SLOW SOCKET_TIMEOUT NETWORK_ERROR DNS_ERROR CANNOT_READ_FROM_SOCKET CANNOT_WRITE_TO_SOCKET
  ALL_CONNECTION_TRIES_FAILED NO_FREE_CONNECTION EXTERNAL_SERVER_IS_NOT_RESPONDING
  TOO_MANY_SIMULTANEOUS_QUERIES QUOTA_EXCEEDED LIMIT_EXCEEDED RESOURCE_LIMIT_EXCEEDED SERVER_OVERLOADED
  USER_SESSION_LIMIT_EXCEEDED TCP_CONNECTION_LIMIT_REACHED HTTP_CONNECTION_LIMIT_REACHED RECEIVED_ERROR_TOO_MANY_REQUESTS
  CANNOT_SCHEDULE_TASK TOO_MANY_MUTATIONS DISTRIBUTED_TOO_MANY_PENDING_BYTES
  CANNOT_OPEN_FILE CANNOT_CREATE_FILE CANNOT_CREATE_DIRECTORY CANNOT_FSYNC CANNOT_READ_FROM_FILE_DESCRIPTOR
  CANNOT_WRITE_TO_FILE_DESCRIPTOR FILE_DOESNT_EXIST S3_ERROR AZURE_BLOB_STORAGE_ERROR
  NO_ZOOKEEPER UNEXPECTED_ZOOKEEPER_ERROR KEEPER_EXCEPTION RAFT_ERROR NOT_A_LEADER
  NO_ACTIVE_REPLICAS NO_AVAILABLE_REPLICA ALL_REPLICAS_LOST REPLICA_STATUS_CHANGED SHARD_HAS_NO_CONNECTIONS
  NO_REMOTE_SHARD_AVAILABLE TOO_MANY_UNAVAILABLE_SHARDS
  TOO_FEW_LIVE_REPLICAS UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE UNKNOWN_STATUS_OF_INSERT UNKNOWN_STATUS_OF_TRANSACTION
  UNFINISHED ABORTED QUERY_WAS_CANCELLED QUERY_WAS_CANCELLED_BY_CLIENT THREAD_WAS_CANCELED DEADLOCK_AVOIDED
  TABLE_IS_BEING_RESTARTED PART_IS_LOCKED PART_IS_TEMPORARILY_LOCKED ASYNC_LOAD_WAIT_FAILED ASYNC_LOAD_CANCELED
  SYSTEM_ERROR POCO_EXCEPTION STD_EXCEPTION UNKNOWN_EXCEPTION`)
/** It answers questions and takes no rows. */
const READ_ONLY = names('READONLY TABLE_IS_READ_ONLY TABLE_IS_PERMANENTLY_READ_ONLY')
/** Merges lag behind. */
const TOO_MANY_PARTS = names('TOO_MANY_PARTS')
/** Of this insert, of the server, or of the machine. */
const OUT_OF_MEMORY = names(`
  MEMORY_LIMIT_EXCEEDED CANNOT_ALLOCATE_MEMORY CANNOT_MREMAP MEMORY_RESERVATION_KILLED MEMORY_RESERVATION_FAILED`)
const DISK_FULL = names('NOT_ENOUGH_SPACE')
/** Who we are or what we may do. */
const DENIED = names(`
  UNKNOWN_USER WRONG_PASSWORD REQUIRED_PASSWORD IP_ADDRESS_NOT_ALLOWED DATABASE_ACCESS_DENIED ACCESS_DENIED
  AUTHENTICATION_FAILED USER_EXPIRED`)
/** A table, column or database that our migrations make. */
const SCHEMA_BEHIND = names(
  'UNKNOWN_TABLE UNKNOWN_DATABASE TABLE_IS_DROPPED NO_SUCH_COLUMN_IN_TABLE THERE_IS_NO_COLUMN',
)
/** The bytes do not parse, do not fit their columns, or break a constraint. */
const ROWS_REFUSED = names(`
  CANNOT_PARSE_TEXT CANNOT_PARSE_ESCAPE_SEQUENCE CANNOT_PARSE_QUOTED_STRING CANNOT_PARSE_INPUT_ASSERTION_FAILED
  CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME CANNOT_PARSE_NUMBER CANNOT_PARSE_UUID CANNOT_PARSE_BOOL
  ATTEMPT_TO_READ_AFTER_EOF CANNOT_READ_ALL_DATA UNEXPECTED_END_OF_FILE UNEXPECTED_DATA_AFTER_PARSED_VALUE
  INCORRECT_DATA BAD_ARGUMENTS TYPE_MISMATCH CANNOT_CONVERT_TYPE ARGUMENT_OUT_OF_BOUND
  VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE DECIMAL_OVERFLOW UNKNOWN_ELEMENT_OF_ENUM CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  TOO_LARGE_STRING_SIZE TOO_LARGE_ARRAY_SIZE SIZES_OF_ARRAYS_DONT_MATCH VIOLATED_CONSTRAINT UNICODE_ERROR`)

function names(list: string): ReadonlySet<string> {
  return new Set(list.trim().split(/\s+/))
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

/** Every name that is judged; a test asks the engine whether it knows them. */
export const JUDGED_NAMES = [...WORLD.flatMap(([names]) => [...names]), ...ROWS_REFUSED]

export type Doing = 'insert' | 'query'

/** The HeadraceError for whatever a call to ClickHouse threw; one that is already ours passes. */
export function classify(error: unknown, doing: Doing, what: string): HeadraceError {
  if (error instanceof HeadraceError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (!(error instanceof ClickHouseError))
    return warehouseError('HR_WAREHOUSE_UNAVAILABLE', `${what}: ClickHouse did not answer: ${text}`, error)
  const name = error.type ?? ''
  const sentence = `${what}: ClickHouse says ${error.code} ${name}: ${text}`
  // The same name as "merges lag behind", but no waiting helps.
  if (name === 'TOO_MANY_PARTS' && text.includes('partitions for single INSERT block'))
    return warehouseError('HR_WAREHOUSE_TOO_MANY_MONTHS', sentence, error)
  const world = WORLD.find(([names]) => names.has(name))
  if (world) return warehouseError(world[1], sentence, error)
  if (doing === 'query') return warehouseError('HR_WAREHOUSE_QUERY_REFUSED', sentence, error)
  if (ROWS_REFUSED.has(name)) return warehouseError('HR_WAREHOUSE_REFUSED', sentence, error)
  return warehouseError('HR_WAREHOUSE_UNEXPECTED', sentence, error)
}
