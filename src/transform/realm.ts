/**
 * One QuickJS runtime with one context, for one transformation: never for two, since user code may change all that is
 * in it. In: an event. Out: the text that the prelude answers, or why the call was cut. What must hold: a call ends,
 * whatever the user's code does, after `interruptsMax` stretches of 10,000 branches and calls, which count alike on
 * every machine and in every replay; the clock cuts only what counting does not see. After a cut the realm is thrown
 * away. Cost: a text crosses by `encodeInto`, 1.5 µs for 1.2 kB; by the library's own `newString` it is 7. A realm takes
 * about a millisecond to build.
 */
import { readFileSync } from 'node:fs'
import variant from '@jitl/quickjs-wasmfile-release-sync'
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSRuntime,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core'
import { isWholePlain, layOut, Shapes, shapeLine, TABLE_WORDS, wordsOf } from './crossing.ts'
import type { TransformEvent } from './outcome.ts'

export type RealmLimits = {
  /** Stretches of 10,000 branches and calls for one event; 0.3 to 1 ms each. */
  readonly interruptsMax: number
  /** Far above the other, so that no replay on a busy machine decides otherwise. */
  readonly clockMsMax: number
  /** All of the sandbox; 16 MB at least, of which 5 are the interpreter's own. */
  readonly memoryBytesMax: number
  readonly stackBytesMax: number
  /** Characters of all events that one becomes. */
  readonly outputCharsMax: number
  readonly eventsMax: number
  /** Objects and lists in each other, in what is returned. */
  readonly levelsMax: number
  /** Lines of `log` in one batch, and characters of a line. */
  readonly logLinesMax: number
  readonly logCharsMax: number
  /** Calls of helpers for one event, and characters of the arguments of one call. */
  readonly helperCallsMax: number
  readonly argumentCharsMax: number
}

export type Reply =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'timeout' | 'memory' }
  /** The interpreter itself broke: the whole WebAssembly instance is lost. */
  | { readonly kind: 'trap'; readonly message: string }

/** Longer arrays are refused where a built-in would walk over them without looking for interrupts. */
const ARRAY_LENGTH_MAX = 1_000_000
/** Length of a text by length of what is looked for in it: a tenth of a second at most. */
const SEARCH_MAX = 100_000_000
/** Longest text that `repeat` and padding make. */
const TEXT_LENGTH_MAX = 1_000_000
const BUFFER_BYTES_START = 64 * 1024

/** Of this many answers in a row, if most looked at all properties, those of the next events cross as JSON. */
const LOOKS_AT_ALL = 16
const AS_JSON_EVENTS = 1_000

export const textOf = (file: string) => readFileSync(new URL(file, import.meta.url), 'utf8')
export const PRELUDE = textOf('./prelude.js')
export const PRELUDE_EVENT = textOf('./prelude-event.js')

let compiled: Promise<WebAssembly.Module> | undefined

/** The machine code is made once per process; an instance is a memory of its own, which nothing else can reach. */
export class Instance {
  readonly quickjs: QuickJSWASMModule
  readonly #memory: WebAssembly.Memory
  readonly #memoryBytesMax: number
  #bytes: Uint8Array
  #words: Int32Array
  #buffer: number
  #bufferBytes = BUFFER_BYTES_START
  readonly #arguments: number

  /** `memoryBytesMax` is a maximum that WebAssembly itself keeps. */
  static async create(memoryBytesMax: number): Promise<Instance> {
    const wasm = Bun.file(Bun.resolveSync('@jitl/quickjs-wasmfile-release-sync/wasm', import.meta.dir))
    compiled ??= wasm.arrayBuffer().then((bytes) => WebAssembly.compile(bytes))
    return new Instance(
      memoryBytesMax,
      await newQuickJSWASMModuleFromVariant(
        newVariant(variant, { wasmModule: await compiled, wasmMemory: memoryOf(memoryBytesMax) }),
      ),
    )
  }

  private constructor(memoryBytesMax: number, quickjs: QuickJSWASMModule) {
    this.#memoryBytesMax = memoryBytesMax
    this.quickjs = quickjs
    this.#memory = quickjs.getWasmMemory()
    this.#bytes = new Uint8Array(this.#memory.buffer)
    this.#words = new Int32Array(this.#memory.buffer)
    this.#buffer = this.allocate(this.#bufferBytes)
    this.#arguments = this.allocate(4)
  }

  /** Pointer to memory that belongs to the caller. */
  allocate(bytes: number): number {
    const pointer = this.quickjs['module']._malloc(bytes) as number
    if (!pointer) throw new RangeError(`no ${bytes} bytes left in the sandbox's memory`)
    return pointer
  }

  /** True when the memory has grown to its limit: it never shrinks, so it says nothing of what is in use. */
  get isFull(): boolean {
    const bytes = this.#memory.buffer.byteLength
    return bytes > PAGES_MIN * PAGE_BYTES && bytes > this.#memoryBytesMax * 0.9
  }

  /** The memory moves when it grows, so the views are asked for each time. */
  #heap(): Uint8Array {
    if (this.#bytes.buffer !== this.#memory.buffer) this.#bytes = new Uint8Array(this.#memory.buffer)
    return this.#bytes
  }

  writeWords(pointer: number, words: Int32Array, count: number): void {
    if (this.#words.buffer !== this.#memory.buffer) this.#words = new Int32Array(this.#memory.buffer)
    const heap = this.#words
    for (let i = 0, at = pointer >>> 2; i < count; i++) heap[at + i] = words[i]!
  }

  readWord(pointer: number): number {
    return new DataView(this.#memory.buffer).getInt32(pointer, true)
  }

  /** Pointer to the text in UTF-8, ended by a NUL, until the next call. `text` has no U+0000. */
  writeText(text: string): number {
    const bytesMax = text.length * 3 + 1
    if (bytesMax > this.#bufferBytes) {
      this.quickjs['module']._free(this.#buffer as never)
      this.#buffer = 0
      this.#bufferBytes = bytesMax
      this.#buffer = this.allocate(bytesMax)
    }
    const heap = this.#heap()
    const { written } = encoder.encodeInto(text, heap.subarray(this.#buffer, this.#buffer + bytesMax))
    heap[this.#buffer + written] = 0
    return this.#buffer
  }

  readText(pointer: number): string {
    const heap = this.#heap()
    // Nearly every answer of one character says that an event stays, or goes.
    if (heap[pointer + 1] === 0) return String.fromCharCode(heap[pointer]!)
    return decoder.decode(heap.subarray(pointer, heap.indexOf(0, pointer)))
  }

  /** Pointer to a list of one argument. */
  argument(value: number): number {
    new DataView(this.#memory.buffer).setUint32(this.#arguments, value, true)
    return this.#arguments
  }
}

const PAGE_BYTES = 65_536
const PAGES_MIN = 256

/**
 * The library's own `setMemoryLimit` is of no use: QuickJS asks the allocator how large a block is, the WebAssembly
 * build answers 0, and 10 MB of texts pass a limit of 8 MB.
 */
function memoryOf(bytesMax: number): WebAssembly.Memory {
  return new WebAssembly.Memory({
    initial: PAGES_MIN,
    maximum: Math.max(PAGES_MIN, Math.floor(bytesMax / PAGE_BYTES)),
  })
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** The raw calls of the library take branded pointers; here they are numbers. */
export type RawCalls = Record<
  'QTS_NewString' | 'QTS_Call' | 'QTS_GetString' | 'QTS_ResolveException' | 'QTS_NewArrayBuffer',
  (...values: number[]) => number
> &
  Record<'QTS_FreeValuePointer' | 'QTS_FreeCString', (...values: number[]) => void>

export function limitsIn(context: QuickJSContext, limits: RealmLimits): QuickJSHandle {
  const all = {
    ...limits,
    arrayLengthMax: ARRAY_LENGTH_MAX,
    searchMax: SEARCH_MAX,
    textLengthMax: TEXT_LENGTH_MAX,
  }
  return context.unwrapResult(context.evalCode(`(${JSON.stringify(all)})`))
}

/** What a prelude makes of what it is given. */
export function preludeIn(
  context: QuickJSContext,
  name: string,
  code: string,
  ...given: QuickJSHandle[]
): QuickJSHandle {
  const prelude = context.unwrapResult(context.evalCode(`'use strict';${code}`, name))
  const made = context.unwrapResult(context.callFunction(prelude, context.undefined, ...given))
  prelude.dispose()
  return made
}

export class Realm {
  readonly #instance: Instance
  readonly #limits: RealmLimits
  readonly #runtime: QuickJSRuntime
  readonly #context: QuickJSContext
  readonly #raw: RawCalls
  readonly #contextPointer: number
  readonly #undefined: number
  #begin: QuickJSHandle | undefined
  #tell: QuickJSHandle | undefined
  #again: QuickJSHandle | undefined
  #transform: QuickJSHandle | undefined
  /** The table of crossing.ts, in the sandbox's memory and to be copied there. */
  #table = 0
  readonly #words = new Int32Array(TABLE_WORDS)
  readonly #shapes = new Shapes()
  #looksAtAll = 0
  #asJson = 0
  #wasJson = false
  #interrupts = 0
  #interruptsMax: number
  #deadline = 0
  #cut = false
  /** Events that have run here. */
  calls = 0

  /** `host` answers a helper's call: name and arguments as JSON, and JSON back. It must not throw. */
  constructor(instance: Instance, limits: RealmLimits, host: (name: string, values: string) => string) {
    this.#instance = instance
    this.#limits = limits
    this.#interruptsMax = limits.interruptsMax
    this.#runtime = instance.quickjs.newRuntime()
    this.#runtime.setMaxStackSize(limits.stackBytesMax)
    this.#runtime.setInterruptHandler(() => {
      this.#interrupts++
      // The clock starts with the first interrupt: most events meet none.
      if (this.#interrupts === 1) this.#deadline = performance.now() + this.#limits.clockMsMax
      this.#cut ||= this.#interrupts > this.#interruptsMax || performance.now() > this.#deadline
      return this.#cut
    })
    this.#context = this.#runtime.newContext()
    this.#raw = instance.quickjs.getFFI() as unknown as RawCalls
    this.#contextPointer = this.#context['ctx'].value as number
    this.#undefined = this.#context.undefined.value as number
    this.#host = host
  }

  readonly #host: (name: string, values: string) => string

  /** Runs the prelude and then the user's module: undefined, or what is wrong with it. */
  start(code: string): string | undefined {
    const context = this.#context
    this.#arm(true)
    const limits = limitsIn(context, this.#limits)
    const host = context.newFunction('host', (name, values) =>
      context.newString(this.#host(context.getString(name), context.getString(values))),
    )
    this.#table = this.#instance.allocate(TABLE_WORDS * 4)
    const table = context['memory'].heapValueHandle(
      this.#raw.QTS_NewArrayBuffer(this.#contextPointer, this.#table, TABLE_WORDS * 4) as never,
    ) as QuickJSHandle
    const world = preludeIn(context, 'prelude.js', PRELUDE, host, limits)
    const bridge = preludeIn(
      context,
      'prelude-event.js',
      PRELUDE_EVENT,
      world,
      table,
      limits,
      context.undefined,
    )
    const bind = context.getProp(bridge, 'bind')
    this.#begin = context.getProp(world, 'beginBatch')
    this.#tell = context.getProp(bridge, 'tell')
    this.#again = context.getProp(bridge, 'again')
    for (const handle of [limits, host, table, world, bridge]) handle.dispose()

    this.#arm(true)
    const module = context.evalCode(code, CODE_NAME, { type: 'module' })
    if (module.error) {
      const what = this.#describe(module.error)
      bind.dispose()
      return this.#cut ? 'what is outside of the function runs too long' : what
    }
    const state = context.getPromiseState(module.value)
    if (state.type === 'pending' || state.type === 'rejected') {
      const what =
        state.type === 'rejected' ? this.#describe(state.error) : 'it awaits outside of its function'
      module.value.dispose()
      bind.dispose()
      return what
    }
    const transform = context.getProp(state.value, 'default')
    const bound = context.unwrapResult(context.callFunction(bind, context.undefined, transform))
    for (const handle of [transform, bind]) handle.dispose()
    if (state.value.alive) state.value.dispose()
    if (module.value.alive) module.value.dispose()
    if (context.typeof(bound) === 'string') {
      const what = context.getString(bound)
      bound.dispose()
      return what
    }
    this.#transform = bound
    return undefined
  }

  #describe(error: QuickJSHandle): string {
    const shown: unknown = this.#context.dump(error)
    error.dispose()
    if (typeof shown !== 'object' || shown === null) return String(shown)
    const { name, message } = shown as { name?: unknown; message?: unknown }
    return `${name}: ${message}`
  }

  /**
   * The counter goes on from event to event, so the same event may meet one interrupt more or less, and one more where
   * its properties cross one by one. With two less allowed where others have run, whatever passes there passes in a
   * fresh realm, too, and only a fresh one decides.
   */
  #arm(fresh: boolean): void {
    this.#interrupts = 0
    this.#interruptsMax = fresh ? this.#limits.interruptsMax : Math.max(0, this.#limits.interruptsMax - 2)
    this.#cut = false
  }

  /** Before each batch. */
  begin(): void {
    this.#arm(true)
    this.#context.unwrapResult(this.#context.callFunction(this.#begin!, this.#context.undefined)).dispose()
  }

  /** True when it holds promises that nobody will ever settle. */
  get hasPendingJobs(): boolean {
    return this.#runtime.hasPendingJob()
  }

  /** Interrupts of the last call. */
  get interrupts(): number {
    return this.#interrupts
  }

  /** True when the last event crossed as JSON and met interrupts: property by property it might have met too many. */
  get isHeavyAsJson(): boolean {
    return this.#wasJson && this.#interrupts > 0
  }

  /** Runs one event. */
  call(event: TransformEvent, mayBeJson = true): Reply {
    const fresh = this.calls++ === 0
    this.#wasJson = mayBeJson && this.#asJson > 0 && this.#asJson-- > 0
    try {
      let isTold = true
      const line = layOut(
        event,
        this.#words,
        (keys) =>
          this.#shapes.of(keys, (shape) => {
            this.#arm(true)
            isTold = this.#callWith(this.#tell!, shapeLine(shape)).kind === 'text'
          }),
        this.#wasJson,
      )
      if (!isTold) return { kind: 'memory' }
      this.#instance.writeWords(this.#table, this.#words, wordsOf(event, this.#words))
      this.#arm(fresh)
      let reply = this.#callWith(this.#transform!, line)
      if (reply.kind === 'text' && reply.text.startsWith('R') && !isWholePlain(reply.text)) {
        const { interrupts } = this
        this.#arm(true)
        reply = this.#callWith(this.#again!, '')
        this.#interrupts += interrupts
      }
      if (reply.kind === 'text') this.#learn(reply.text)
      return reply
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError)
        return { kind: 'trap', message: error.message }
      throw error
    }
  }

  #callWith(callee: QuickJSHandle, line: string): Reply {
    const raw = this.#raw
    const context = this.#contextPointer
    const text = raw.QTS_NewString(context, this.#instance.writeText(line))
    if (this.#failed(text)) return { kind: 'memory' }
    const argument = this.#instance.argument(text)
    const result = raw.QTS_Call(context, callee.value as number, this.#undefined, 1, argument)
    raw.QTS_FreeValuePointer(context, text)
    if (this.#failed(result)) return { kind: this.#cut ? 'timeout' : 'memory' }
    const pointer = raw.QTS_GetString(context, result)
    if (pointer === 0) return { kind: 'memory' }
    const reply = this.#instance.readText(pointer)
    raw.QTS_FreeCString(context, pointer)
    raw.QTS_FreeValuePointer(context, result)
    // A cut that came with the very last branch is none: the answer is whole.
    return { kind: 'text', text: reply }
  }

  /** What crosses how changes no outcome, only what it costs. */
  #learn(reply: string): void {
    if (this.#asJson > 0) return
    if (reply.startsWith('A')) this.#looksAtAll++
    else if (this.#looksAtAll > 0) this.#looksAtAll--
    if (this.#looksAtAll < LOOKS_AT_ALL) return
    this.#looksAtAll = LOOKS_AT_ALL - 2
    this.#asJson = AS_JSON_EVENTS
  }

  /** True for an exception, which it frees. The prelude catches what is the user's, so it is a cut or no memory. */
  #failed(value: number): boolean {
    const error = this.#raw.QTS_ResolveException(this.#contextPointer, value)
    if (error === 0) return false
    this.#raw.QTS_FreeValuePointer(this.#contextPointer, error)
    return true
  }

  /** Not after a trap: then the instance goes as a whole. */
  dispose(): void {
    this.#transform?.dispose()
    this.#begin?.dispose()
    this.#tell?.dispose()
    this.#again?.dispose()
    this.#context.dispose()
    this.#runtime.dispose()
  }
}

/** What stack traces call the user's code. */
export const CODE_NAME = 'transformation.js'
