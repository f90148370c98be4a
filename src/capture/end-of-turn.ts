/**
 * Work that waits for the end of the turn of the event loop in which it came, so that all of a turn is done in one go.
 * In between two requests that are worked on as they come, the kernel and the HTTP parser push our code and our data out
 * of the caches of the processor: a scan of one event takes 3 µs in a row of its like, and over 10 between two reads.
 * Gain: a tenth of what a request with one event costs with 256 connections (8 of 92 µs). Costs a request the rest of
 * its turn, which is nothing when it is alone.
 */
export class EndOfTurn<T> {
  private items: T[] = []

  /** `work` must not throw: what is behind the item would never be done. */
  constructor(private readonly work: (item: T) => void) {}

  /** `work` is called with `item` once everything that is ready now has been read, in order of `add`. */
  add(item: T): void {
    this.items.push(item)
    if (this.items.length === 1) setImmediate(this.run)
  }

  private readonly run = (): void => {
    const { items, work } = this
    this.items = []
    for (let i = 0; i < items.length; i++) work(items[i]!)
  }
}
