/** Whether `end` is over within `ms`; does not fail with it when it is late. Leaves no timer behind. */
export async function endsWithin(end: Promise<unknown> | undefined, ms: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false)
  })
  try {
    return await Promise.race([Promise.resolve(end).then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
