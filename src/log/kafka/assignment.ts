/**
 * Who owns which partition number, decided by the group's leader; pure.
 *
 * What must hold: a number goes to one member for all topics; members differ by at most one number; a number stays
 * where it is when balance allows; and a number that moves is first given to nobody: its owner lets go of it and joins
 * again, and only then somebody else gets it (Kafka's cooperative protocol), so two members never own it at a time.
 */
export type Claimant = {
  id: string
  /** Numbers it says it owns. */
  owned: number[]
  /** The generation in which it got them; the newest claim to a number counts. */
  generation: number
}

/** Numbers per member id for this round. A number that must change hands is missing from all. */
export function assignNumbers(members: Claimant[], partitions: number): Map<string, number[]> {
  const sorted = [...members].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  const owner = new Map<number, Claimant>()
  for (const member of sorted) {
    for (const number of member.owned) {
      if (number < 0 || number >= partitions) continue
      const rival = owner.get(number)
      if (!rival || member.generation > rival.generation) owner.set(number, member)
    }
  }
  const kept = new Map<string, number[]>(sorted.map((member) => [member.id, []]))
  for (let number = 0; number < partitions; number++) {
    const holder = owner.get(number)
    if (holder) kept.get(holder.id)!.push(number)
  }
  const targets = shares(sorted, kept, partitions)
  const result = new Map<string, number[]>()
  const claimed = new Set(owner.keys())
  const free: number[] = []
  for (let number = 0; number < partitions; number++) if (!claimed.has(number)) free.push(number)
  for (const { id } of sorted) result.set(id, kept.get(id)!.slice(0, targets.get(id)!))
  let next = 0
  for (const { id } of sorted) {
    const mine = result.get(id)!
    while (mine.length < targets.get(id)! && next < free.length) mine.push(free[next++]!)
    mine.sort((a, b) => a - b)
  }
  return result
}

/** How many numbers each member gets in the end: those who own most get the larger share, so that fewest move. */
function shares(members: Claimant[], kept: Map<string, number[]>, partitions: number): Map<string, number> {
  const small = Math.floor(partitions / members.length)
  let larger = partitions % members.length
  const targets = new Map<string, number>()
  const byOwned = [...members].sort((a, b) => kept.get(b.id)!.length - kept.get(a.id)!.length)
  for (const { id } of byOwned) {
    targets.set(id, larger > 0 ? small + 1 : small)
    larger--
  }
  return targets
}
