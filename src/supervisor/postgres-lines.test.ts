import { expect, test } from 'bun:test'
import { type PostgresLevel, postgresLevel } from './postgres-lines.ts'

const rows: [rule: string, line: string, before: PostgresLevel, level: PostgresLevel][] = [
  ['the usual life of the server', 'LOG:  database system is ready', 'info', 'debug'],
  ['the answer to a statement is judged by who sent it', 'ERROR:  deadlock detected', 'info', 'debug'],
  ['its detail goes with it', 'DETAIL:  Process 1 waits', 'debug', 'debug'],
  ['its statement, too', 'STATEMENT:  SELECT 1', 'debug', 'debug'],
  ['and the rest of the statement', '\tFROM somewhere', 'debug', 'debug'],
  ['the detail of what matters matters', 'HINT:  is another postmaster running?', 'warn', 'warn'],
  ['a session that was ended', 'FATAL:  terminating connection', 'debug', 'warn'],
  ['the end of the server', 'PANIC:  could not write', 'debug', 'error'],
  ['words of our own about the cluster', 'creating the Postgres cluster', 'debug', 'info'],
]
test.each(rows)('%s', (_, line, before, level) => expect(postgresLevel(line, before)).toBe(level))
