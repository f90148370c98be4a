/**
 * User code of several steps in a row, in one call for many events: what is left of the cost of a crossing is shared by
 * all of them. In: events. Out: for each what its steps answered, as far as that is light: the event as it was, dropped, or
 * with texts, numbers and the like in its properties (prelude-chain.js, `light` in prelude-event.js). All else is left to
 * the step's own sandbox (sandbox.ts), which decides: an event that throws, becomes several, is looked at as a whole, runs
 * for more than some interrupts. What must hold: a light answer is the one that the sandbox would give. Each step has a
 * context of its own; they share a memory, so what one breaks costs the others this way, and no event its outcome.
 *
 *   light ── cut, or promises left behind ──▶ thrown away, and left alone for 1, 2, 4 … 256 batches ──▶ built anew
 */
import type { QuickJSContext, QuickJSHandle, QuickJSRuntime } from 'quickjs-emscripten-core'
import type { CompiledTransformation } from './compile.ts'
import {
  isWholePlain,
  layOut,
  moveInto,
  NO_SHAPE,
  Shapes,
  shapeLine,
  TABLE_WORDS,
  wordsOf,
} from './crossing.ts'
import { ask, type HostHelpers } from './helpers.ts'
import type { TransformEvent } from './outcome.ts'
import {
  CODE_NAME,
  Instance,
  limitsIn,
  PRELUDE,
  PRELUDE_EVENT,
  preludeIn,
  type RawCalls,
  type RealmLimits,
  textOf,
} from './realm.ts'

/** Of all steps of one event: a tenth of what one step may, so that no way of crossing decides whether it is cut. */
const INTERRUPTS_MAX = 4
const CLOCK_MS_MAX = 1_000
/** Of one call. */
const EVENTS_MAX = 100
const TEXT_CHARS_MAX = 256 * 1024
const WORDS_MAX = 32 * 1024
/** `progress`, how many events, how many words. */
const WORDS_BEFORE = 3
const BATCHES_ALONE_MAX = 256

const PRELUDE_CHAIN = textOf('./prelude-chain.js')

/** S: as it was. D: dropped. A text that begins with R: what changed (crossing.ts). Of as many steps as were light. */
export type LightReplies = readonly string[]

export class LightChain {
  readonly #compiled: readonly CompiledTransformation[]
  readonly #helpers: HostHelpers
  readonly #limits: RealmLimits
  #vm: LightVm | undefined
  #alone = 0
  #aloneNext = 1

  constructor(compiled: readonly CompiledTransformation[], helpers: HostHelpers, limits: RealmLimits) {
    this.#compiled = compiled
    this.#helpers = helpers
    this.#limits = limits
  }

  get size(): number {
    return this.#compiled.length
  }

  /** Parallel to the events; undefined where nothing was light. */
  async run(events: readonly TransformEvent[]): Promise<(LightReplies | undefined)[]> {
    const replies = new Array<LightReplies | undefined>(events.length)
    if (this.#alone > 0) {
      this.#alone--
      return replies
    }
    this.#vm ??= await LightVm.open(this.#compiled, this.#helpers, this.#limits)
    const vm = this.#vm
    if (!vm) {
      this.#leaveAlone()
      return replies
    }
    for (let from = 0; from < events.length; ) {
      const to = vm.layOut(events, from)
      if (!vm.run(replies)) {
        this.#leaveAlone()
        return replies
      }
      from = to
    }
    this.#aloneNext = 1
    return replies
  }

  #leaveAlone(): void {
    this.close()
    this.#alone = this.#aloneNext
    this.#aloneNext = Math.min(BATCHES_ALONE_MAX, this.#aloneNext * 2)
  }

  /** No batch may be running. */
  close(): void {
    this.#vm?.dispose()
    this.#vm = undefined
  }
}

class LightVm {
  readonly #instance: Instance
  readonly #runtime: QuickJSRuntime
  readonly #contexts: QuickJSContext[] = []
  readonly #handles: QuickJSHandle[] = []
  readonly #raw: RawCalls
  readonly #table: number
  readonly #words = new Int32Array(WORDS_MAX)
  readonly #one = new Int32Array(TABLE_WORDS)
  readonly #shapes = new Shapes()
  #run!: QuickJSHandle
  #tell!: QuickJSHandle
  /** Of the call at hand: places of its events among all, and their text. */
  #places: number[] = []
  #text = ''
  #wordCount = 0
  #at = -1
  #interrupts = 0
  #interruptsMax = INTERRUPTS_MAX
  #deadline = 0
  #isBroken = false

  /** Undefined when it does not start: then its steps' own sandboxes say what is wrong, if anything is. */
  static async open(
    compiled: readonly CompiledTransformation[],
    helpers: HostHelpers,
    limits: RealmLimits,
  ): Promise<LightVm | undefined> {
    let vm: LightVm | undefined
    try {
      vm = new LightVm(await Instance.create(limits.memoryBytesMax), limits)
      if (vm.#start(compiled, helpers, limits)) return vm
      vm.dispose()
    } catch {
      // With its memory it is let go as it is.
    }
    return undefined
  }

  private constructor(instance: Instance, limits: RealmLimits) {
    this.#instance = instance
    this.#raw = instance.quickjs.getFFI() as unknown as RawCalls
    this.#table = instance.allocate(WORDS_MAX * 4)
    this.#runtime = instance.quickjs.newRuntime()
    this.#runtime.setMaxStackSize(limits.stackBytesMax)
    this.#runtime.setInterruptHandler(() => {
      const at = instance.readWord(this.#table)
      if (at !== this.#at) {
        this.#at = at
        this.#interrupts = 0
      }
      return ++this.#interrupts > this.#interruptsMax || performance.now() > this.#deadline
    })
  }

  #start(compiled: readonly CompiledTransformation[], helpers: HostHelpers, limits: RealmLimits): boolean {
    this.#arm(limits.interruptsMax)
    const own = this.#context()
    const chain = preludeIn(own, 'prelude-chain.js', PRELUDE_CHAIN, this.#tableIn(own))
    const gone = own.getProp(chain, 'gone')
    const add = own.getProp(chain, 'add')
    this.#run = own.getProp(chain, 'run')
    this.#tell = own.getProp(chain, 'tell')
    this.#handles.push(chain, gone, add, this.#run, this.#tell)
    for (const { code } of compiled) {
      const context = this.#context()
      const host = context.newFunction('host', (name, values) =>
        context.newString(this.#answer(helpers, context.getString(name), context.getString(values))),
      )
      const given = limitsIn(context, limits)
      const table = this.#tableIn(context)
      const world = preludeIn(context, 'prelude.js', PRELUDE, host, given)
      const bridge = preludeIn(context, 'prelude-event.js', PRELUDE_EVENT, world, table, given, gone)
      const light = context.getProp(bridge, 'light')
      this.#handles.push(host, given, world, bridge, light)
      this.#arm(limits.interruptsMax)
      const module = context.evalCode(code, CODE_NAME, { type: 'module' })
      if (module.error) {
        module.error.dispose()
        return false
      }
      this.#handles.push(module.value)
      const state = context.getPromiseState(module.value)
      if (state.type !== 'fulfilled') return false
      const transform = context.getProp(state.value, 'default')
      const step = context.unwrapResult(context.callFunction(light, context.undefined, transform))
      own.unwrapResult(own.callFunction(add, own.undefined, step)).dispose()
      this.#handles.push(transform, step)
      if (state.value.alive) this.#handles.push(state.value)
    }
    return true
  }

  #context(): QuickJSContext {
    const context = this.#runtime.newContext()
    this.#contexts.push(context)
    return context
  }

  #tableIn(context: QuickJSContext): QuickJSHandle {
    const pointer = this.#raw.QTS_NewArrayBuffer(
      context['ctx'].value as unknown as number,
      this.#table,
      WORDS_MAX * 4,
    )
    const handle = context['memory'].heapValueHandle(pointer as never) as QuickJSHandle
    this.#handles.push(handle)
    return handle
  }

  #answer(helpers: HostHelpers, name: string, values: string): string {
    try {
      return JSON.stringify(ask(helpers, name, JSON.parse(values) as string[]) ?? null)
    } catch {
      // The step's own sandbox meets it again, and says it.
      this.#isBroken = true
      return 'null'
    }
  }

  #arm(interruptsMax = INTERRUPTS_MAX): void {
    this.#interruptsMax = interruptsMax
    this.#at = -1
    this.#interrupts = 0
    this.#deadline = performance.now() + CLOCK_MS_MAX
  }

  /** Puts events from `from` on into the next call, as many as it takes; where the others begin. */
  layOut(events: readonly TransformEvent[], from: number): number {
    this.#places = []
    this.#text = ''
    let word = WORDS_BEFORE
    let i = from
    for (; i < events.length && this.#places.length < EVENTS_MAX; i++) {
      if (this.#text.length > TEXT_CHARS_MAX || word + TABLE_WORDS > WORDS_MAX) break
      const event = events[i]!
      const text = layOut(
        event,
        this.#one,
        (keys) =>
          this.#shapes.of(keys, (shape) => {
            this.#arm()
            if (this.#call(this.#tell, shapeLine(shape)) === undefined) this.#isBroken = true
          }),
        false,
      )
      if (this.#one[0] === NO_SHAPE || text.length > TEXT_CHARS_MAX) continue
      const count = wordsOf(event, this.#one)
      moveInto(this.#words, word, this.#one, count, this.#text.length)
      this.#text += text
      word += count
      this.#places.push(i)
    }
    this.#words[0] = 0
    this.#words[1] = this.#places.length
    this.#words[2] = word
    this.#wordCount = word
    return i
  }

  /** False when it is of no use any more; then nothing of this call is in `replies`. */
  run(replies: (LightReplies | undefined)[]): boolean {
    if (this.#isBroken) return false
    if (this.#places.length === 0) return true
    this.#instance.writeWords(this.#table, this.#words, this.#wordCount)
    this.#arm()
    const text = this.#call(this.#run, this.#text)
    if (text === undefined || this.#isBroken) return false
    if (this.#runtime.hasPendingJob()) this.#isBroken = true
    this.#read(text, replies)
    return true
  }

  /** Undefined when it was cut, found no memory, or broke. */
  #call(callee: QuickJSHandle, line: string): string | undefined {
    const raw = this.#raw
    const context = this.#contexts[0]!['ctx'].value as unknown as number
    try {
      const text = raw.QTS_NewString(context, this.#instance.writeText(line))
      if (this.#failed(context, text)) return undefined
      const nothing = this.#contexts[0]!.undefined.value as unknown as number
      const result = raw.QTS_Call(
        context,
        callee.value as unknown as number,
        nothing,
        1,
        this.#instance.argument(text),
      )
      raw.QTS_FreeValuePointer(context, text)
      if (this.#failed(context, result)) return undefined
      const pointer = raw.QTS_GetString(context, result)
      if (pointer === 0) return undefined
      const reply = this.#instance.readText(pointer)
      raw.QTS_FreeCString(context, pointer)
      raw.QTS_FreeValuePointer(context, result)
      return reply
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError) && !(error instanceof RangeError)) throw error
      this.#isBroken = true
      return undefined
    }
  }

  #failed(context: number, value: number): boolean {
    const error = this.#raw.QTS_ResolveException(context, value)
    if (error === 0) return false
    this.#raw.QTS_FreeValuePointer(context, error)
    return true
  }

  /** A text with a NUL or half a character is not as long as was said: then nothing of the call counts. */
  #read(text: string, replies: (LightReplies | undefined)[]): void {
    const lengthEnd = text.indexOf('|')
    const codesEnd = text.indexOf('|', lengthEnd + 1)
    let body = codesEnd + 1
    if (codesEnd < 0 || text.length - body !== Number(text.slice(0, lengthEnd))) return
    const steps = this.#contexts.length - 1
    let at = lengthEnd + 1
    for (const place of this.#places) {
      const own: string[] = []
      // A separator in a text that was written: its own sandbox gives that as JSON.
      let isReadable = true
      for (let step = 0; step < steps; step++) {
        const code = text[at++]!
        let reply = code
        if (code === 'R') {
          const end = text.indexOf('.', at)
          const length = Number(text.slice(at, end))
          reply = text.slice(body, body + length)
          body += length
          at = end + 1
          isReadable &&= isWholePlain(reply)
        }
        if (code === 'X') break
        if (isReadable) own.push(reply)
        if (code === 'D') break
      }
      if (own.length > 0) replies[place] = own
    }
  }

  dispose(): void {
    // What broke is let go with its memory; to take it apart might break more.
    if (this.#isBroken) return
    for (const handle of this.#handles) if (handle.alive) handle.dispose()
    for (const context of this.#contexts) context.dispose()
    this.#runtime.dispose()
  }
}
