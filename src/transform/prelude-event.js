/**
 * The event that user code is given, and what it made of it. In: the host's text and table (crossing.ts). Out: `bind`,
 * which takes the user's function and gives the one that the host calls per event, and `tell`, by which it says what
 * properties there are. What must hold: `properties` is an object like any other to the user's code, though it is a
 * Proxy that takes a value out of the text when it is touched; whatever looks at all of them fills it first, and from
 * then on it has no traps any more. As in prelude.js, nothing that user code replaces changes what this code does.
 */
;({ helpers, beginEvent }, memory, limits) => {
  const table = new Int32Array(memory)
  const { parse, stringify } = JSON
  const { isArray } = Array
  const { apply, ownKeys, defineProperty, get, set, has, setPrototypeOf, deleteProperty } = Reflect
  const { getOwnPropertyDescriptor, preventExtensions, getPrototypeOf } = Reflect
  const { prototype: objectPrototype } = Object
  const NativeProxy = Proxy
  const NativeString = String
  const NativePromise = Promise
  const NativeInternalError = InternalError
  const { slice } = NativeString.prototype
  const substring = Function.prototype.call.bind(slice)
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

  /** In `held`: deleted; and set to undefined. */
  const GONE = { __proto__: null }
  const UNDEFINED = { __proto__: null }

  const put = (object, key, value) => {
    if (key in objectPrototype)
      defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
    else object[key] = value
  }

  const valueAt = (lazy, i) => {
    const { ends } = lazy
    const end = ends[i + 1]
    switch (end & 7) {
      case TEXT:
        return substring(lazy.text, ends[i] >>> 3, end >>> 3)
      case TRUE:
        return true
      case FALSE:
        return false
      case NULL:
        return null
      default:
        return parse(substring(lazy.text, ends[i] >>> 3, end >>> 3))
    }
  }

  /** The own property `key`, or GONE. */
  const own = (lazy, key) => {
    const { held } = lazy
    const value = held[key]
    if (value !== undefined) return value === UNDEFINED ? undefined : value
    const i = lazy.shape.places[key]
    if (i === undefined) return GONE
    const read = valueAt(lazy, i)
    held[key] = read
    // The user's code may change what is in it.
    if (typeof read === 'object' && read !== null) lazy.touched[key] = true
    return read
  }

  /** Makes the Proxy one without traps, over an object that has all that it stands for. */
  const fill = (lazy) => {
    const { target, held, touched } = lazy
    const { keys, places } = lazy.shape
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]
      const value = held[key]
      if (value === undefined) put(target, key, valueAt(lazy, i))
      else if (value !== GONE) put(target, key, value === UNDEFINED ? undefined : value)
    }
    const changed = ownKeys(touched)
    for (let i = 0; i < changed.length; i++) {
      const key = changed[i]
      const value = held[key]
      if (places[key] === undefined && value !== GONE)
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
      const { held } = this
      const isKnown = held[key] === undefined ? this.shape.places[key] !== undefined : held[key] !== GONE
      // A key that was deleted goes to the end of the others; one that is inherited may have a setter.
      if (
        typeof key !== 'string' ||
        receiver !== this.proxy ||
        key === 'toJSON' ||
        (!isKnown && (held[key] === GONE || key in target))
      )
        return set(fill(this), key, value, receiver)
      held[key] = value === undefined ? UNDEFINED : value
      this.touched[key] = true
      return true
    },
    has(target, key) {
      return (typeof key === 'string' && own(this, key) !== GONE) || has(target, key)
    },
    deleteProperty(target, key) {
      if (typeof key !== 'string') return deleteProperty(target, key)
      if (this.shape.places[key] === undefined && this.held[key] === undefined) return true
      this.held[key] = GONE
      this.touched[key] = true
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

  const lazyProperties = (text, shape) => {
    const { keys } = shape
    const lazy = {
      __proto__: TRAPS,
      text,
      shape,
      // Of its own: user code may keep the event, and the table is written anew for the next one.
      ends: copyTable(table, HEAD - 1, HEAD + keys.length),
      held: { __proto__: null },
      touched: { __proto__: null },
      target: {},
      proxy: undefined,
      isFilled: false,
    }
    lazy.proxy = new NativeProxy(lazy.target, lazy)
    return lazy
  }

  // ---- What it became ----

  const UNIT = '\u001f'
  const RECORD = '\u001e'

  /** Names that are gone and, as one JSON object, values that are new. */
  const changes = ({ held, touched, shape }) => {
    const keys = ownKeys(touched)
    if (keys.length === 0) return `[]${UNIT}{}`
    let gone = ''
    let written = ''
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]
      const value = held[key]
      if (value !== GONE && value !== UNDEFINED) {
        // With its key, as in the whole: a toJSON is told it.
        const pair = stringify({ __proto__: null, [key]: value })
        if (pair !== '{}') {
          written += (written === '' ? '' : ',') + substring(pair, 1, -1)
          continue
        }
      }
      if (shape.places[key] !== undefined) gone += (gone === '' ? '' : ',') + stringify(key)
    }
    return `[${gone}]${UNIT}{${written}}`
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
      const uuid = substring(text, 0, UUID)
      const timestamp = substring(text, UUID, timeEnd)
      const name = substring(text, timeEnd, nameEnd)
      const distinctId = substring(text, nameEnd, headEnd)
      beginEvent(uuid, timestamp)
      const lazy = table[0] < 0 ? undefined : lazyProperties(text, shapes[table[0]])
      const given = { name, distinctId, lazy }
      let result
      try {
        result = transform(
          {
            uuid,
            event: name,
            distinct_id: distinctId,
            timestamp,
            properties: lazy === undefined ? parse(substring(text, headEnd)) : lazy.proxy,
          },
          helpers,
        )
      } catch (error) {
        return ofError('exception', error)
      }
      if (result === undefined || result === null) return 'D'
      wrong = ''
      try {
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

  return { bind, tell }
}
