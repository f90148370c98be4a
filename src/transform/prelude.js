/**
 * The world of user code, made before any of it runs. In: the host's one function and the limits. Out: the helpers, and
 * what begins a batch and an event. What must hold: after this has run, nothing that user code replaces (JSON.parse,
 * Array.prototype, toJSON …) changes what this code does, so everything used below is captured here; nothing depends
 * on the clock, the machine or its time zone; and no built-in runs long without the interpreter's interrupts. Read as
 * text, in strict mode, never imported.
 */
;(host, limits) => {
  const { parse, stringify } = JSON
  const { isArray, prototype: arrayPrototype } = Array
  const { apply, construct, ownKeys, defineProperty } = Reflect
  const { freeze, preventExtensions, prototype: objectPrototype } = Object
  const { imul, floor, ceil, max } = Math
  const { isNaN: isNoNumber } = Number
  const NativeString = String
  const NativeDate = Date
  const NativeRangeError = RangeError
  const NativeTypeError = TypeError
  const { slice, charCodeAt } = NativeString.prototype

  const replace = (target, key, value) =>
    defineProperty(target, key, { value, writable: true, configurable: true, enumerable: false })

  // What reads the machine, or when garbage is collected, would make a replay differ.
  for (const name of ['WeakRef', 'FinalizationRegistry', 'SharedArrayBuffer', 'Atomics', 'performance'])
    delete globalThis[name]

  // ---- Built-ins that loop without interrupts ----
  // An array-like of length 2^53 or a sparse array keeps them busy for years, two long strings for hours.

  const checkArray = (value) => {
    if (!isArray(value)) throw new NativeTypeError('array methods work on arrays here: use Array.from')
    if (value.length > limits.arrayLengthMax) throw new NativeRangeError('the array is too long')
  }
  // These take one step, whatever the length.
  const harmless = ['length', 'constructor', 'toString', 'push', 'pop', 'at', 'values', 'keys', 'entries']
  for (const name of ownKeys(arrayPrototype)) {
    if (typeof name === 'symbol' || harmless.includes(name)) continue
    const native = arrayPrototype[name]
    replace(
      arrayPrototype,
      name,
      {
        [name](...values) {
          checkArray(this)
          if (name === 'concat') for (let i = 0; i < values.length; i++) guardSpread(values[i])
          if (name === 'flat') guardNested(this, values[0] === undefined ? 1 : +values[0])
          return apply(native, this, values)
        },
      }[name],
    )
  }
  const guardSpread = (value) => {
    if (typeof value !== 'object' || value === null) return
    if (isArray(value)) checkArray(value)
    else if (value[Symbol.isConcatSpreadable] !== undefined)
      throw new NativeTypeError('concat spreads arrays only here')
  }
  const guardNested = (array, depth) => {
    if (!(depth >= 1)) return
    for (let i = 0; i < array.length; i++) {
      if (!isArray(array[i])) continue
      checkArray(array[i])
      guardNested(array[i], depth - 1)
    }
  }
  const nativeFlat = arrayPrototype.flat
  replace(
    arrayPrototype,
    'flatMap',
    {
      flatMap(callback, self) {
        checkArray(this)
        const mapped = []
        for (let i = 0; i < this.length; i++)
          if (i in this) mapped[mapped.length] = apply(callback, self, [this[i], i, this])
        return apply(nativeFlat, mapped, [1])
      },
    }.flatMap,
  )

  // Work on long texts counts towards the interrupts like branches do.
  const spend = (characters) => {
    for (let i = characters >>> 6; i > 0; i--);
  }
  for (const name of ['indexOf', 'lastIndexOf', 'includes', 'split', 'replace', 'replaceAll']) {
    const native = NativeString.prototype[name]
    replace(
      NativeString.prototype,
      name,
      {
        [name](pattern, second) {
          // A regular expression looks for interrupts itself.
          if (typeof this !== 'string' || (typeof pattern === 'object' && pattern !== null))
            return apply(native, this, [pattern, second])
          const text = NativeString(pattern)
          spend(this.length)
          if (text.length > 1 && this.length * text.length > limits.searchMax)
            throw new NativeRangeError('the text to search and what to look for are too long')
          return apply(native, this, [pattern, second])
        },
      }[name],
    )
  }

  // The built-in goes character by character: half a second for 8 million.
  const repeat = (text, count) => {
    if (!(text.length * count <= limits.textLengthMax)) throw new NativeRangeError('the text is too long')
    spend(text.length * count)
    let rest = count
    let result = ''
    for (let piece = text; rest >= 1; rest = floor(rest / 2)) {
      if (rest % 2 >= 1) result += piece
      if (rest >= 2) piece += piece
    }
    return result
  }
  const own = (value) => {
    if (value === undefined || value === null) throw new NativeTypeError('there is no text')
    return NativeString(value)
  }
  const count = (value) => {
    const number = floor(+value)
    if (number < 0) throw new NativeRangeError('the count is negative')
    return isNoNumber(number) ? 0 : number
  }
  const fill = (text, length, filler = ' ') => {
    const missing = count(max(0, length)) - text.length
    const piece = NativeString(filler)
    if (!(missing > 0) || piece === '') return ''
    return apply(slice, repeat(piece, ceil(missing / piece.length)), [0, missing])
  }
  const texts = {
    repeat(times) {
      return repeat(own(this), count(times))
    },
    padStart(length, filler) {
      const text = own(this)
      return fill(text, length, filler) + text
    },
    padEnd(length, filler) {
      const text = own(this)
      return text + fill(text, length, filler)
    },
  }
  for (const name of ownKeys(texts)) replace(NativeString.prototype, name, texts[name])

  // ---- Time and chance, given by the event ----

  let timestamp = '1970-01-01T00:00:00.000Z'
  let seed = ''
  let state = 0
  let seeded = false
  const nativeParse = NativeDate.parse
  const now = () => nativeParse(timestamp)

  // Local time is UTC, wherever this runs. With a zone appended a text that has one already is no date any more.
  const parseDate = (text) => {
    const plain = NativeString(text)
    const utc = nativeParse(`${plain}Z`)
    return isNoNumber(utc) ? nativeParse(plain) : utc
  }
  const utc = NativeDate.UTC
  function SandboxDate(...parts) {
    if (new.target === undefined) return new SandboxDate().toString()
    if (parts.length === 0) return construct(NativeDate, [now()], new.target)
    if (parts.length === 1) {
      let [value] = parts
      if (typeof value === 'object' && value !== null)
        value =
          value instanceof NativeDate ? +value : (value[Symbol.toPrimitive]?.('default') ?? value.valueOf())
      return construct(NativeDate, [typeof value === 'string' ? parseDate(value) : value], new.target)
    }
    return construct(NativeDate, [apply(utc, NativeDate, parts)], new.target)
  }
  const datePrototype = NativeDate.prototype
  defineProperty(SandboxDate, 'prototype', { value: datePrototype, writable: false })
  defineProperty(SandboxDate, 'name', { value: 'Date' })
  defineProperty(SandboxDate, 'length', { value: 7 })
  replace(SandboxDate, 'now', now)
  replace(SandboxDate, 'parse', parseDate)
  replace(SandboxDate, 'UTC', utc)
  replace(datePrototype, 'constructor', SandboxDate)
  const units = ['FullYear', 'Month', 'Date', 'Hours', 'Minutes', 'Seconds', 'Milliseconds', 'Day']
  for (const unit of units) {
    replace(datePrototype, `get${unit}`, datePrototype[`getUTC${unit}`])
    if (unit !== 'Day') replace(datePrototype, `set${unit}`, datePrototype[`setUTC${unit}`])
  }
  replace(datePrototype, 'getTimezoneOffset', () => 0)
  const { toUTCString } = datePrototype
  for (const name of [
    'toString',
    'toDateString',
    'toTimeString',
    'toLocaleString',
    'toLocaleDateString',
    'toLocaleTimeString',
  ])
    replace(datePrototype, name, toUTCString)
  delete datePrototype.getYear
  delete datePrototype.setYear
  replace(globalThis, 'Date', SandboxDate)

  // splitmix32 over a hash (FNV-1a) of the event's uuid.
  replace(Math, 'random', () => {
    if (!seeded) {
      seeded = true
      state = 0x811c9dc5
      for (let i = 0; i < seed.length; i++) state = imul(state ^ apply(charCodeAt, seed, [i]), 0x01000193)
    }
    state = (state + 0x9e3779b9) | 0
    let mixed = imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 4294967296
  })

  // ---- Helpers ----

  let calls = 0
  const ask = (name, values) => {
    if (++calls > limits.helperCallsMax)
      throw new NativeRangeError(`more than ${limits.helperCallsMax} calls of helpers for one event`)
    const text = stringify(values)
    if (text.length > limits.argumentCharsMax) throw new NativeRangeError(`what ${name} is given is too long`)
    return parse(host(name, text))
  }
  const text = (name, value) => {
    if (typeof value !== 'string') throw new NativeTypeError(`${name} takes a text`)
    return value
  }
  let lines = 0
  const helpers = freeze({
    __proto__: null,
    geoip: (ip) => ask('geoip', [text('geoip', ip)]),
    isBot: (userAgent) => ask('isBot', [text('isBot', userAgent)]),
    hash: (value) => ask('hash', [text('hash', value)]),
    lookup: (table, key) => ask('lookup', [text('lookup', table), text('lookup', key)]),
    log(...values) {
      // Beyond the batch's lines it costs nothing.
      if (lines >= limits.logLinesMax) return
      lines++
      let line = ''
      for (let i = 0; i < values.length; i++) {
        const value = values[i]
        line +=
          (i ? ' ' : '') + (typeof value === 'string' ? value : (stringify(value) ?? NativeString(value)))
      }
      ask('log', [apply(slice, line, [0, limits.logCharsMax])])
    },
  })

  // QuickJS's own stringify would meet setters on these, and every object a toJSON.
  preventExtensions(arrayPrototype)
  preventExtensions(objectPrototype)

  return {
    helpers,
    beginBatch() {
      lines = 0
    },
    /** What time it is and what chance gives, from now on. */
    beginEvent(uuid, time) {
      seed = uuid
      seeded = false
      calls = 0
      timestamp = time
    },
  }
}
