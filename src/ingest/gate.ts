/** Lets at most `width` pieces of work run at once; the others wait in order. Bounds the memory of all partitions together. */
export class Gate {
  private free: number
  private readonly queue: (() => void)[] = []

  constructor(width: number) {
    this.free = width
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--
    else await new Promise<void>((resolve) => this.queue.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.queue.shift()
      if (next) next()
      else this.free++
    }
  }
}
