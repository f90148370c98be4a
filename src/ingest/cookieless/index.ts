/**
 * Cookieless events: ids for people who left no cookie, made of what each request shows, under a secret that lives for
 * a day. In: parsed events that say `$cookieless_mode`. Out: the same events with ids and without what these were made
 * of, or a drop with its reason.
 *
 *   salts.open ─▶ judge (per event) ─▶ normalise ─▶ [read visitors] ─▶ findIds ─▶ withIds ─▶ [write visitors, note]
 *
 * What must hold: a salt is the same for all processes and gone when its day is closed; the ids of a batch are stored
 * with its receipt until the log has its rows, so a replay gives the same; no event is dead-lettered because Postgres
 * is away. Cost: no round trip more per batch, about 8 µs per event here (docs/decisions/0018).
 */
export { type FactsOf, factsFrom } from './facts.ts'
export { type Judged, judge, type Visit } from './judge.ts'
export { judgeAgain, type NotedIds, noteIds, readNote, withoutIds } from './note.ts'
export { startPurge } from './purge.ts'
export { type CookielessIds, withIds } from './rewrite.ts'
export { Salts } from './salts.ts'
export {
  currentIds,
  lockVisitors,
  readVisitors,
  visitorsJson,
  visitorWritesJson,
  type WantedVisitors,
  wantedVisitors,
} from './state.ts'
export { COOKIELESS_DISTINCT_ID } from './visitor.ts'
export { findIds, NO_STATES, type VisitorStates, type VisitorWrite } from './visitors.ts'
