/** How a process tells what it does: logs, metrics, health. Imports nothing of ours but the vocabulary. */
export * from './health.ts'
export * from './logger.ts'
export * from './metrics.ts'
