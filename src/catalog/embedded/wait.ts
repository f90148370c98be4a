/** Looks every 10 ms until `condition` holds; false when it does not within `ms`. */
export async function waitUntil(condition: () => boolean, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  while (!condition()) {
    if (performance.now() > deadline) return false
    await Bun.sleep(10)
  }
  return true
}
