/**
 * Steps of one chain in one call, each in a context of its own. In: the text and the table of several events
 * (crossing.ts), after `progress` and how many they are. Out: for each event what its steps answered (`light` in
 * prelude-event.js), until one drops it or says X. What must hold: user code sees nothing of this context but primitives.
 * `progress` tells the host which event is at work, so that interrupts are counted by event.
 */
;(memory) => {
  const words = new Int32Array(memory)
  const { parse } = JSON
  const { apply, getPrototypeOf } = Reflect
  const { join } = Array.prototype
  const { slice } = String.prototype
  const copy = getPrototypeOf(Int32Array.prototype).slice
  const HEAD = 4
  const UUID = 36

  const steps = []
  const shapes = []
  const tell = (line) => {
    const { 0: id, 1: keys } = parse(line)
    const places = { __proto__: null }
    for (let i = 0; i < keys.length; i++) places[keys[i]] = i
    shapes[id] = { keys, places }
  }

  const run = (text) => {
    const count = words[1]
    // Of its own: user code may keep an event, and the table is written anew for the next ones.
    const ends = apply(copy, words, [0, words[2]])
    const cut = (from, to) => apply(slice, text, [from, to])
    let codes = ''
    let length = 0
    const bodies = []
    let at = 3
    let start = 0
    for (let i = 0; i < count; i++) {
      words[0] = i
      const shape = shapes[ends[at]]
      const timeEnd = ends[at + 1] >>> 3
      const nameEnd = ends[at + 2] >>> 3
      const headEnd = ends[at + 3] >>> 3
      const event = {
        uuid: cut(start, start + UUID),
        timestamp: cut(start + UUID, timeEnd),
        name: cut(timeEnd, nameEnd),
        distinctId: cut(nameEnd, headEnd),
        text,
        shape,
        ends,
        at: at + HEAD - 1,
        base: undefined,
      }
      at += HEAD + shape.keys.length
      start = ends[at - 1] >>> 3
      for (let k = 0; k < steps.length; k++) {
        const reply = steps[k](event)
        if (reply === 'S') {
          codes += 'S'
          continue
        }
        if (reply.length === 1) {
          codes += reply
          break
        }
        codes += `R${reply.length}.`
        length += reply.length
        bodies[bodies.length] = reply
      }
    }
    return `${length}|${codes}|${apply(join, bodies, [''])}`
  }

  return {
    gone: { __proto__: null },
    tell,
    run,
    add(step) {
      steps[steps.length] = step
    },
  }
}
