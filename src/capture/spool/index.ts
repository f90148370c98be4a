/**
 * The spool of capture: where acknowledged events lie while the log is out of reach, fsynced, until they are in it.
 *
 * `detour.ts` decides when events go there and when they go to the log again; `spool.ts` is one spool, `folder.ts` its
 * place, `record.ts` its bytes; `drainer.ts` empties one, `adopter.ts` those that nobody holds, `aside.ts` keeps what the log does not take; `reporter.ts` tells.
 */
export { Detour } from './detour.ts'
