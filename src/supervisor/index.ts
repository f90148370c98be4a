/**
 * What keeps the roles of `headrace up` alive: children with health, backoff and ordered stop, the lock on the data
 * folder, one log stream, one page of health and metrics. Knows processes, not what they do; `src/cli/up.ts` says
 * which processes there are and in which order they come and go.
 */
export * from './api.ts'
export * from './child.ts'
export * from './data-lock.ts'
export * from './errors.ts'
export * from './log-stream.ts'
export * from './postgres-keeper.ts'
export * from './postgres-lines.ts'
export * from './run-folder.ts'
export { stopShareMs } from './verdict.ts'
