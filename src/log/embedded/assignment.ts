/**
 * Which member of a group owns which partition number: a pure function of the live members, so that all of them
 * come to the same answer without talking to each other. The leases decide in the end (member.ts).
 */

/**
 * Balanced: counts differ by at most one. Members come in the order in which they joined, and each takes from those
 * before it what it is due, so a member that joins moves no more numbers than it gets.
 */
export function assign(members: readonly string[], partitions: number): Map<string, number[]> {
  const owned: number[][] = []
  for (let joined = 0; joined < members.length; joined++) {
    if (joined === 0) {
      owned.push(Array.from({ length: partitions }, (_, p) => p))
      continue
    }
    const taken: number[] = []
    for (let due = Math.floor(partitions / (joined + 1)); due > 0; due--) {
      let richest = 0
      for (let m = 1; m < joined; m++) if (owned[m]!.length > owned[richest]!.length) richest = m
      taken.push(owned[richest]!.pop()!)
    }
    owned.push(taken.sort((a, b) => a - b))
  }
  return new Map(members.map((member, i) => [member, owned[i]!]))
}
