/**
 * Places of frames in the segments of one partition, sparse (one per 256 KiB), learned while reading, so that a
 * second look at an old offset does not walk the segment from its beginning. Bounded: the segments that were used
 * least recently are forgotten.
 */
const SPACING_BYTES = 256 * 1024
const SEGMENTS_MAX = 64

type Places = { offsets: number[]; bytes: number[] }

export class SegmentIndex {
  private readonly segments = new Map<number, Places>()

  /** Notes that the frame at byte `at` of the segment begins with `offset`. Places come in rising order or again. */
  note(segment: number, offset: number, at: number): void {
    let places = this.segments.get(segment)
    if (!places) {
      places = { offsets: [], bytes: [] }
      this.segments.set(segment, places)
      if (this.segments.size > SEGMENTS_MAX) this.segments.delete(this.segments.keys().next().value!)
    }
    const last = places.bytes.at(-1)
    if (last !== undefined && at < last + SPACING_BYTES) return
    places.offsets.push(offset)
    places.bytes.push(at)
  }

  /** The last noted frame that begins at or before `offset`. */
  before(segment: number, offset: number): { offset: number; at: number } | undefined {
    const places = this.segments.get(segment)
    if (!places) return undefined
    this.segments.delete(segment)
    this.segments.set(segment, places)
    let low = 0
    let high = places.offsets.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (places.offsets[middle]! <= offset) low = middle + 1
      else high = middle
    }
    return low === 0 ? undefined : { offset: places.offsets[low - 1]!, at: places.bytes[low - 1]! }
  }
}
