/**
 * How much memory the embedded Postgres may fill with pages of its tables. In: what the operator chose, and the memory
 * there is. Out: MB for `shared_buffers`.
 *
 * A page that is not in there is read from the kernel's cache and its checksum is computed: 3 to 4 µs, and a batch
 * touches several for each of its persons. Memory is taken as tables are read, so a small installation has none of it;
 * but 1 % for the book-keeping is taken at the start, and that is what bounds the default.
 */
import { totalmem } from 'node:os'

export const BUFFERS_MB_MIN = 64
/** Holds about a million persons of 1 kB. */
const BUFFERS_MB_DEFAULT_MAX = 2_048
const PART_OF_MEMORY = 8
const MB = 2 ** 20

/** `chosenMb` unless it is 0; then a part of `memoryBytes`. */
export function postgresBuffersMb(chosenMb: number, memoryBytes = memoryThereIs()): number {
  if (chosenMb > 0) return chosenMb
  const part = Math.floor(memoryBytes / MB / PART_OF_MEMORY)
  return Math.min(Math.max(part, BUFFERS_MB_MIN), BUFFERS_MB_DEFAULT_MAX)
}

/** Of the machine, or of the container when that may use less. */
function memoryThereIs(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}
