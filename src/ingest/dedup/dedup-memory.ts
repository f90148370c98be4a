/**
 * How much memory the dedup indexes of a process may take, over all its partitions: HEADRACE_DEDUP_MEMORY_MB. Half is for
 * filters: those that find no room are read from their files. Half is for the newest claims: the more partitions, the
 * fewer each holds before it writes them out.
 */
const SEAL_CLAIMS_MAX = 65_536
const SEAL_CLAIMS_MIN = 4_096
/** A claim and its place in the table, twice while the former ones are written out, and the order of these. */
const BYTES_PER_CLAIM = 2 * (36 + 8) + 12

const BYTES_BY_DEFAULT = 512 * 2 ** 20

export class DedupMemory {
  private indexes = 0
  private filterBytes = 0

  constructor(
    readonly bytesMax: number = BYTES_BY_DEFAULT,
    private readonly sealClaimsMax = SEAL_CLAIMS_MAX,
  ) {}

  /** One index more takes its part. */
  join(): void {
    this.indexes++
  }

  leave(): void {
    this.indexes--
  }

  /** From so many recent claims on an index makes a run of them: a power of two, as what holds them grows. */
  get sealClaims(): number {
    const each = this.bytesMax / 2 / Math.max(1, this.indexes) / BYTES_PER_CLAIM
    const fitting = 2 ** Math.floor(Math.log2(Math.max(each, SEAL_CLAIMS_MIN)))
    return Math.min(fitting, this.sealClaimsMax)
  }

  /** False when there is no room. */
  takeFilter(bytes: number): boolean {
    if (this.filterBytes + bytes > this.bytesMax / 2) return false
    this.filterBytes += bytes
    return true
  }

  giveFilter(bytes: number): void {
    this.filterBytes -= bytes
  }
}
