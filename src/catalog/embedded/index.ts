/** The real Postgres, from npm, on a Unix socket in the data folder. */
export { postgresBuffersMb } from './buffers.ts'
export { POSTGRES_ERRORS } from './errors.ts'
export { type EmbeddedPostgres, type PostgresExit, startEmbeddedPostgres } from './server.ts'
export { embeddedSocketDir } from './socket.ts'
