/**
 * The event that user code is given, and what it made of it. In: the host's text and table (crossing.ts). Out: `bind`,
 * which takes the user's function and gives the one that the host calls per event, and `tell`, by which it says what
 * properties there are. What must hold: `properties` is an object like any other to the user's code, though it is a
 * Proxy that takes a value out of the text when it is touched; whatever looks at all of them fills it first, and from
 * then on it has no traps any more. As in prelude.js, nothing that user code replaces changes what this code does.
 */
;({ helpers, beginEvent }, memory, limits, gone) => {
  const table = new Int32Array(memory)
  const { parse, stringify } = JSON
  const { isArray } = Array
  const { apply, ownKeys, defineProperty, get, set, has, setPrototypeOf, deleteProperty } = Reflect
  const { getOwnPropertyDescriptor, preventExtensions, getPrototypeOf } = Reflect
  const { prototype: objectPrototype, create } = Object
  const NativeProxy = Proxy
  const NativeString = String
  const NativePromise = Promise
  const NativeInternalError = InternalError
  const stringPrototype = NativeString.prototype
  const { slice } = stringPrototype
  // Under a name that user code can find but not change: called as a method it takes half as long as when bound.
  const SLICE = Symbol('slice')
  defineProperty(stringPrototype, SLICE, { value: slice })
  const copyTable = Function.prototype.call.bind(getPrototypeOf(Int32Array.prototype).slice)

  /** Words of the table before the first value; the last of them is where that one begins. */
  const HEAD = 4
  const TEXT = 0
  const TRUE = 2
  const FALSE = 3
  const NULL = 4
  const UUID = 36

  const shapes = []
  const tell = (line) => {
    const { 0: id, 1: keys } = parse(line)
    const places = { __proto__: null }
    for (let i = 0; i < keys.length; i++) places[keys[i]] = i
    shapes[id] = { keys, places }
  }

  // ---- Properties that are taken out of the text when they are touched ----

  /** In `held`: deleted, the same for all steps of a chain; and set to undefined. */
  const GONE = gone ?? { __proto__: null }
  const UNDEFINED = { __proto__: null }

  const put = (object, key, value) => {
    if (key in objectPrototype)
      defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
    else object[key] = value
  }

  const valueAt = (lazy, i) => {
    const { ends } = lazy
    const at = lazy.at + i
    const end = ends[at + 1]
    switch (end & 7) {
      case TEXT:
        return lazy.text[SLICE](ends[at] >>> 3, end >>> 3)
      case TRUE:
        return true
      case FALSE:
        return false
      case NULL:
        return null
      default:
        return parse(lazy.text[SLICE](ends[at] >>> 3, end >>> 3))
    }
  }

  /** Remembers a value that the user's code wrote, or may change. */
  const hold = (lazy, key, value) => {
    if (lazy.held === undefined) lazy.held = create(null)
    lazy.held[key] = value
  }

  /** The own property `key`, or GONE. */
  const own = (lazy, key) => {
    const { held } = lazy
    if (held !== undefined) {
      const value = held[key]
      if (value !== undefined) return value === UNDEFINED ? undefined : value
    }
    const { base } = lazy
    if (base !== undefined) {
      const value = base[key]
      if (value !== undefined) return value
    }
    const i = lazy.shape.places[key]
    if (i === undefined) return GONE
    const read = valueAt(lazy, i)
    if (typeof read === 'object' && read !== null) hold(lazy, key, read)
    return read
  }

  /** Makes the Proxy one without traps, over an object that has all that it stands for. */
  const fill = (lazy) => {
    const { target } = lazy
    const held = lazy.held ?? { __proto__: null }
    const base = lazy.base ?? { __proto__: null }
    const { keys, places } = lazy.shape
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]
      const value = held[key] ?? base[key]
      if (value === undefined) put(target, key, valueAt(lazy, i))
      else if (value !== GONE) put(target, key, value === UNDEFINED ? undefined : value)
    }
    const added = ownKeys(base)
    for (let i = 0; i < added.length; i++) {
      const key = added[i]
      const value = held[key] ?? base[key]
      if (places[key] === undefined && value !== GONE)
        put(target, key, value === UNDEFINED ? undefined : value)
    }
    const changed = ownKeys(held)
    for (let i = 0; i < changed.length; i++) {
      const key = changed[i]
      const value = held[key]
      if (places[key] === undefined && base[key] === undefined && value !== GONE)
        put(target, key, value === UNDEFINED ? undefined : value)
    }
    lazy.isFilled = true
    setPrototypeOf(lazy, null)
    return target
  }

  const TRAPS = {
    __proto__: null,
    get(target, key, receiver) {
      if (typeof key !== 'string') return get(target, key, receiver)
      const value = own(this, key)
      return value === GONE ? get(target, key, receiver) : value
    },
    set(target, key, value, receiver) {
      const { held, base } = this
      let before = held === undefined ? undefined : held[key]
      if (before === undefined && base !== undefined) before = base[key]
      // A key that was deleted goes to the end of the others; one that is inherited may have a setter.
      if (
        typeof key !== 'string' ||
        receiver !== this.proxy ||
        before === GONE ||
        key === 'toJSON' ||
        (before === undefined && this.shape.places[key] === undefined && key in target)
      )
        return set(fill(this), key, value, receiver)
      if (held === undefined) this.held = create(null)
      this.held[key] = value === undefined ? UNDEFINED : value
      return true
    },
    has(target, key) {
      return (typeof key === 'string' && own(this, key) !== GONE) || has(target, key)
    },
    deleteProperty(target, key) {
      if (typeof key !== 'string') return deleteProperty(target, key)
      if (own(this, key) !== GONE) hold(this, key, GONE)
      return true
    },
    getOwnPropertyDescriptor(target, key) {
      if (typeof key !== 'string') return getOwnPropertyDescriptor(target, key)
      const value = own(this, key)
      return value === GONE ? undefined : { value, writable: true, enumerable: true, configurable: true }
    },
    ownKeys() {
      return ownKeys(fill(this))
    },
    defineProperty(_, key, descriptor) {
      return defineProperty(fill(this), key, descriptor)
    },
    setPrototypeOf(_, prototype) {
      return setPrototypeOf(fill(this), prototype)
    },
    preventExtensions() {
      return preventExtensions(fill(this))
    },
  }

  /** `ends` from `at` on say where the values are in `text`; `base` is what steps before have changed. */
  const lazyProperties = (text, shape, ends, at, base) => {
    const lazy = new Lazy(text, shape, ends, at, base)
    lazy.proxy = new NativeProxy(lazy.target, lazy)
    return lazy
  }

  // Objects of one constructor share what QuickJS knows of their form; with `__proto__` in a literal each has its own.
  function Lazy(text, shape, ends, at, base) {
    this.text = text
    this.shape = shape
    this.ends = ends
    this.at = at
    this.base = base
    this.held = undefined
    this.target = {}
    this.proxy = undefined
    this.isFilled = false
  }
  Lazy.prototype = TRAPS

  // ---- What it became ----

  const UNIT = '\u001f'
  const RECORD = '\u001e'

  /** Which of the names are gone, by their places, and as one JSON object the values that are new, in their order. */
  const changes = ({ held, shape }) => {
    const keys = held === undefined ? [] : ownKeys(held)
    let gone = ''
    let written = ''
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]
      const value = held[key]
      if (value !== GONE && value !== UNDEFINED) {
        // With its key, as in the whole: a toJSON is told it.
        const pair = stringify({ __proto__: null, [key]: value })
        if (pair !== '{}') {
          written += (written === '' ? '' : ',') + pair[SLICE](1, -1)
          continue
        }
      }
      const place = shape.places[key]
      if (place !== undefined) gone += (gone === '' ? '' : ',') + place
    }
    return `${gone}${UNIT}{${written}}`
  }

  /**
   * The same without JSON, which takes 6 µs even for little, when texts, numbers and the like are all that was written:
   * entries of a place, or a name and its length, with a letter for what the value is. It says how long it is: a separator or
   * a NUL in a text makes that wrong, and the host asks for JSON. Undefined when there is an object among them. `next` is
   * given what the next step is to see: values as they are once they were written as JSON.
   */
  const plainChanges = ({ held, shape, base }, next) => {
    const keys = ownKeys(held)
    let body = ''
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]
      // Behind other steps places are not those that were sent.
      const place = base === undefined ? shape.places[key] : undefined
      const where = place === undefined ? `+${key.length}:${key}` : place
      const value = held[key]
      switch (typeof value) {
        case 'string':
          body += `${UNIT}${where}s${value}`
          if (next !== undefined) next[key] = value
          continue
        case 'number': {
          const isNumber = value - value === 0
          body += isNumber ? `${UNIT}${where}n${value}` : `${UNIT}${where}z`
          if (next !== undefined) next[key] = isNumber ? value + 0 : null
          continue
        }
        case 'boolean':
          body += `${UNIT}${where}${value ? 't' : 'f'}`
          if (next !== undefined) next[key] = value
          continue
        default:
          // What was given is asked before it is put down as gone.
          if (value === null) body += `${UNIT}${where}z`
          else if (value !== GONE && value !== UNDEFINED) return undefined
          else if (place !== undefined || isGiven(key, shape, base)) body += `${UNIT}${where}g`
          else body += UNIT
          if (next !== undefined) next[key] = value === null ? null : GONE
      }
    }
    return `R${keys.length},${body.length}${body}`
  }

  const isGiven = (key, { places }, base) => {
    const before = base === undefined ? undefined : base[key]
    return before === undefined ? places[key] !== undefined : before !== GONE
  }

  const fail = (kind, message, stack = '') =>
    `E${kind}${UNIT}${stringify(apply(slice, message, [0, 500]))}${UNIT}${stringify(apply(slice, stack, [0, 4000]))}`
  const ofError = (kind, error) => {
    // The interpreter throws it, too, when there is no memory left for an error.
    if (error === null) return fail('null', 'it threw null')
    if (typeof error !== 'object')
      return fail(kind, `it threw ${typeof error === 'symbol' ? 'a symbol' : NativeString(error)}`)
    let message = 'it threw what cannot be shown'
    let stack = ''
    try {
      if (error instanceof NativeInternalError && error.message === 'out of memory') kind = 'memory'
      message = `${NativeString(error.name)}: ${NativeString(error.message)}`
      stack = NativeString(error.stack)
    } catch {}
    return fail(kind, message, stack)
  }

  /**
   * The event as the host reads it (crossing.ts), or what is wrong with it. Each field is read once: a getter may lie.
   * `given` is what the user's function was called with: what stayed the same is not said again.
   */
  const encode = (value, given, failed) => {
    if (typeof value !== 'object' || value === null)
      return failed(`it returned ${value === null ? 'null' : `a ${typeof value}`} for an event`)
    if (value instanceof NativePromise)
      return failed('it returned a promise; a transformation is synchronous')
    const { event, distinct_id, properties } = value
    if (typeof event !== 'string' || event === '') return failed('`event` is not a text that says something')
    if (typeof distinct_id !== 'string' || distinct_id === '')
      return failed('`distinct_id` is not a text that says something')
    if (typeof properties !== 'object' || properties === null || isArray(properties))
      return failed('`properties` is not an object')
    const name = event === given.name ? '' : stringify(event)
    const id = distinct_id === given.distinctId ? '' : stringify(distinct_id)
    const { lazy } = given
    if (lazy !== undefined && properties === lazy.proxy && !lazy.isFilled)
      return `${name}${UNIT}${id}${UNIT}P${UNIT}${changes(lazy)}`
    const written = stringify(properties)
    if (typeof written !== 'string' || written[0] !== '{') return failed('`properties` is not an object')
    return `${name}${UNIT}${id}${UNIT}F${UNIT}${UNIT}${written}`
  }

  let last
  const bind = (transform) => {
    if (typeof transform !== 'function') return 'its default export is not a function'
    let wrong = ''
    const failed = (message) => {
      wrong = message
      return ''
    }
    return (text) => {
      const timeEnd = table[1] >>> 3
      const nameEnd = table[2] >>> 3
      const headEnd = table[3] >>> 3
      const uuid = text[SLICE](0, UUID)
      const timestamp = text[SLICE](UUID, timeEnd)
      const name = text[SLICE](timeEnd, nameEnd)
      const distinctId = text[SLICE](nameEnd, headEnd)
      beginEvent(uuid, timestamp)
      const shape = table[0] < 0 ? undefined : shapes[table[0]]
      const lazy =
        shape &&
        // Ends of its own: user code may keep the event, and the table is written anew for the next one.
        lazyProperties(text, shape, copyTable(table, HEAD - 1, HEAD + shape.keys.length), 0, undefined)
      const properties = lazy === undefined ? parse(text[SLICE](headEnd)) : lazy.proxy
      const event = { uuid, event: name, distinct_id: distinctId, timestamp, properties }
      let result
      try {
        result = transform(event, helpers)
      } catch (error) {
        return ofError('exception', error)
      }
      if (result === undefined || result === null) return 'D'
      wrong = ''
      try {
        if (result === event && lazy !== undefined && !lazy.isFilled)
          if (event.event === name && event.distinct_id === distinctId && event.properties === properties) {
            if (lazy.held === undefined) return 'S'
            const plain = plainChanges(lazy)
            if (plain !== undefined) {
              if (plain.length > limits.outputCharsMax)
                return fail(
                  'output',
                  `it returned more than the ${limits.outputCharsMax} characters that are allowed`,
                )
              last = lazy
              return plain
            }
          }
        const given = { name, distinctId, lazy }
        const isSeveral = isArray(result)
        const count = isSeveral ? result.length : 1
        if (count > limits.eventsMax)
          return fail('output', `it returned ${count} events; ${limits.eventsMax} are allowed`)
        let all = ''
        for (let i = 0; i < count; i++) {
          const encoded = encode(isSeveral ? result[i] : result, given, failed)
          if (wrong !== '') return fail('shape', wrong)
          all += (i ? RECORD : '') + encoded
          if (all.length > limits.outputCharsMax)
            return fail(
              'output',
              `it returned more than the ${limits.outputCharsMax} characters that are allowed`,
            )
        }
        // The host needs to know whether all that it was told to look at was looked at.
        return count === 0 ? 'D' : (lazy === undefined || lazy.isFilled ? 'A' : 'K') + all
      } catch (error) {
        return ofError('output', error)
      }
    }
  }

  /**
   * For a step of a chain that runs in one call (prelude-chain.js): what it answers when that is the event as it was, or
   * with texts, numbers and the like in its properties; X for all else, which is run again on its own. `event` is what the
   * chain knows of it; its `base` is brought up to what the next step is to see.
   */
  const light = (transform) => (event) => {
    const { uuid, timestamp, name, distinctId, base } = event
    beginEvent(uuid, timestamp)
    const lazy = lazyProperties(event.text, event.shape, event.ends, event.at, base)
    const properties = lazy.proxy
    const given = { uuid, event: name, distinct_id: distinctId, timestamp, properties }
    try {
      const result = transform(given, helpers)
      if (result === undefined || result === null) return 'D'
      if (result !== given || lazy.isFilled) return 'X'
      const { event: after, distinct_id, properties: same } = given
      if (after !== name || distinct_id !== distinctId || same !== properties || lazy.isFilled) return 'X'
      const { held } = lazy
      if (held === undefined) return 'S'
      const next = base ?? create(null)
      const plain = plainChanges(lazy, next)
      if (plain === undefined || plain.length > limits.outputCharsMax) return 'X'
      event.base = next
      return plain
    } catch {
      return 'X'
    } finally {
      // Without this circle there is nothing for the garbage collector, which walks through all contexts. Whoever kept the
      // properties meets an object that is filled when it is written to.
      lazy.proxy = undefined
    }
  }

  /** The last answer that was not JSON, as JSON. */
  const again = () => `K${UNIT}${UNIT}P${UNIT}${changes(last)}`

  return { bind, tell, again, light }
}
