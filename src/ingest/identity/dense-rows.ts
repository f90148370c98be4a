/**
 * Guards against a trap of the driver (postgres 3.4.9): after a connection died, or a statement failed, in the middle
 * of its rows, the next result on that connection begins with as many holes as rows had come. Its `count` is right,
 * and the rows stand at the end. Every result of this folder passes here before it is believed.
 */
export function denseRows<T>(result: readonly T[] & { count?: number | null }): readonly T[] {
  const { count } = result
  if (typeof count !== 'number' || result.length <= count) return result
  return Array.prototype.slice.call(result, result.length - count) as T[]
}
