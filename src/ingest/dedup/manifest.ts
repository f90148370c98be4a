/**
 * What of a dedup index changes, in SQLite: up to where it is complete for each log, the journal of the newest claims,
 * and which runs hold the others. Claims and completeness are written in one transaction.
 *
 * WAL with synchronous = NORMAL: no fsync per batch, and a power cut takes the last transactions, never a part of one.
 * Changes of runs are fsynced, because files are made durable before and removed after. Two processes may have it open:
 * writers take turns, and `isChanged` tells one that the other has written.
 */
import { Database, type Statement } from 'bun:sqlite'
import { randomInt } from 'node:crypto'
import { rmSync } from 'node:fs'
import { CLAIM_BYTES } from './claim-words.ts'
import { DamagedIndex } from './failures.ts'
import { checksumOf } from './run-format.ts'

export type JournalRow = { seq: number; claims: Uint32Array; count: number; lastMs: number }
export type RunRow = { seq: number; file: string; level: number }
export type LogRow = { number: number; logId: string }

const VERSION = 3
/** A writer that is at work now is waited for; a process that was stopped in a transaction is not. */
const BUSY_MS = 2_000

const TABLES = [
  'CREATE TABLE log (number INTEGER PRIMARY KEY, log_id TEXT NOT NULL UNIQUE, complete_to INTEGER NOT NULL)',
  'CREATE TABLE journal (seq INTEGER PRIMARY KEY, last_ms INTEGER NOT NULL, checksum INTEGER NOT NULL, claims BLOB NOT NULL)',
  'CREATE TABLE run (seq INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, level INTEGER NOT NULL)',
  'CREATE TABLE seed (value INTEGER NOT NULL)',
]

/** Whether the file is of the format of this version, which opening it as a manifest would otherwise make anew. */
export function isCurrent(path: string): boolean {
  const db = new Database(path, { readwrite: true, create: false })
  try {
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`)
    return versionOf(db) === VERSION
  } finally {
    db.close()
  }
}

export class Manifest {
  /** Of the mixing of uuids. */
  readonly seed: number
  private db: Database
  private readonly version: Statement<{ data_version: number }, []>
  private readonly insertJournal: Statement
  private readonly insertLog: Statement
  private readonly complete: Statement
  private seen = 0

  /** Opens or makes the file; one of an older format is removed: the index is built anew from the log. */
  constructor(readonly path: string) {
    this.db = openFile(path)
    try {
      const version = versionOf(this.db)
      if (version !== VERSION) this.create(version)
      this.seed = this.db.query<{ value: number }, []>('SELECT value FROM seed').get()!.value
      this.version = this.db.query('PRAGMA data_version')
      this.insertJournal = this.db.query(
        'INSERT INTO journal (seq, last_ms, checksum, claims) VALUES (?, ?, ?, ?)',
      )
      this.insertLog = this.db.query('INSERT INTO log (number, log_id, complete_to) VALUES (?, ?, 0)')
      this.complete = this.db.query('UPDATE log SET complete_to = max(complete_to, ?) WHERE number = ?')
    } catch (error) {
      this.db.close()
      throw error
    }
  }

  close(): void {
    this.db.close()
  }

  /** True when another connection has written since this was last asked. */
  isChanged(): boolean {
    const { data_version } = this.version.get()!
    const changed = data_version !== this.seen
    this.seen = data_version
    return changed
  }

  /** No other connection writes meanwhile; everything or nothing of `work` is written. */
  write<T>(work: () => T): T {
    return this.inTransaction(work)
  }

  /** As `write`, and on the disk when it returns. */
  writeDurably<T>(work: () => T): T {
    this.db.run('PRAGMA synchronous = FULL')
    try {
      return this.inTransaction(work)
    } finally {
      this.db.run('PRAGMA synchronous = NORMAL')
    }
  }

  completeTo(logId: string): number {
    const find = this.db.query<{ n: number }, [string]>('SELECT complete_to AS n FROM log WHERE log_id = ?')
    return find.get(logId)?.n ?? 0
  }

  logs(): LogRow[] {
    return this.db.query<LogRow, []>('SELECT number, log_id AS logId FROM log').all()
  }

  addLog(number: number, logId: string): void {
    this.insertLog.run(number, logId)
  }

  setComplete(number: number, to: number): void {
    this.complete.run(to, number)
  }

  /** From the oldest to the newest. */
  runs(): RunRow[] {
    return this.db.query<RunRow, []>('SELECT seq, file, level FROM run ORDER BY seq').all()
  }

  addRun(row: RunRow): void {
    this.db.run('INSERT INTO run (seq, file, level) VALUES (?, ?, ?)', [row.seq, row.file, row.level])
  }

  removeRun(seq: number): void {
    this.db.run('DELETE FROM run WHERE seq = ?', [seq])
  }

  appendJournal(row: JournalRow): void {
    const { claims } = row
    const bytes = new Uint8Array(claims.buffer, claims.byteOffset, claims.byteLength)
    this.insertJournal.run(row.seq, row.lastMs, checksumOf(claims), bytes)
  }

  trimJournal(throughSeq: number): void {
    this.db.run('DELETE FROM journal WHERE seq <= ?', [throughSeq])
  }

  trimJournalBefore(beforeMs: number): void {
    this.db.run('DELETE FROM journal WHERE last_ms < ?', [beforeMs])
  }

  /** In the order in which it was written. Throws DamagedIndex. */
  *journal(): Generator<JournalRow> {
    type Row = { seq: number; last_ms: number; checksum: number; claims: Uint8Array }
    const rows = this.db.query<Row, []>('SELECT seq, last_ms, checksum, claims FROM journal ORDER BY seq')
    for (const row of rows.iterate()) {
      // A copy, since a blob may begin anywhere in memory.
      const claims = new Uint32Array(Uint8Array.from(row.claims).buffer)
      if (checksumOf(claims) !== row.checksum)
        throw new DamagedIndex(`row ${row.seq} of its journal is damaged`)
      yield { seq: row.seq, claims, count: row.claims.length / CLAIM_BYTES, lastMs: row.last_ms }
    }
  }

  /** A copy of all of it in a new file, as it is in one moment. */
  copyTo(path: string): void {
    this.db.run('VACUUM INTO ?', [path])
  }

  private inTransaction<T>(work: () => T): T {
    return this.db.transaction(work).immediate()
  }

  /** Two processes may be here at once: one makes the tables, the other finds them. */
  private create(version: number): void {
    const { tables } = this.db
      .query<{ tables: number }, []>("SELECT count(*) AS tables FROM sqlite_schema WHERE name = 'claim'")
      .get()!
    if (version > 0 || tables > 0) {
      this.db.close()
      for (const suffix of ['', '-wal', '-shm']) rmSync(this.path + suffix, { force: true })
      this.db = openFile(this.path)
    }
    this.inTransaction(() => {
      if (versionOf(this.db) === VERSION) return
      for (const statement of TABLES) this.db.run(statement)
      this.db.run('INSERT INTO seed VALUES (?)', [randomInt(2 ** 32)])
      this.db.run(`PRAGMA user_version = ${VERSION}`)
    })
  }
}

/** Of the format; 0 of a new file, and of one of the first format. */
function versionOf(db: Database): number {
  return db.query<{ user_version: number }, []>('PRAGMA user_version').get()!.user_version
}

function openFile(path: string): Database {
  const db = new Database(path, { create: true })
  try {
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`)
    db.run('PRAGMA journal_mode = WAL')
    db.run('PRAGMA synchronous = NORMAL')
    db.run('PRAGMA cache_size = -512')
    db.run('PRAGMA journal_size_limit = 16777216')
  } catch (error) {
    db.close()
    throw error
  }
  return db
}
