/**
 * Where an INSERT's data waits for the engine: one file per request, in shared memory when it has room (the engine
 * maps what it reads, no disk is touched), else in the data folder. The engine cannot take binary data inline.
 * Must hold: a file is removed when its request ends, files of a dead process when the next one starts, and all of
 * them together stay below `bytesMax`.
 */
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createGunzip } from 'node:zlib'

export const SHARED_MEMORY = '/dev/shm'
/** Shared memory is somebody else's RAM, too: leave this much of it free. */
const SHARED_MEMORY_FREE_BYTES_MIN = 512 * 1024 * 1024

/** The body, or all bodies together, are larger than allowed. */
export class SpoolFull extends Error {
  constructor(readonly scope: 'body' | 'all') {
    super(scope === 'body' ? 'the body is too large' : 'too many bytes wait for the engine')
  }
}

export type SpoolFile = {
  readonly path: string
  bytes: number
  write(chunk: Uint8Array): void
  remove(): void
}

export class Spool {
  private readonly prefix: string
  private readonly folder: string
  private next = 0
  private held = 0

  /** Removes what an earlier process left. The caller holds the lock of `dir`. */
  constructor(
    dir: string,
    private readonly bodyBytesMax: number,
    private readonly bytesMax: number,
  ) {
    this.folder = join(dir, 'spool')
    this.prefix = spoolPrefix(dir)
    mkdirSync(this.folder, { recursive: true, mode: 0o700 })
    for (const folder of [this.folder, SHARED_MEMORY])
      for (const name of list(folder))
        if (name.startsWith(this.prefix)) rmSync(join(folder, name), { force: true })
  }

  get bytes(): number {
    return this.held
  }

  /** A new, empty file. `write` throws SpoolFull at a limit. */
  create(): SpoolFile {
    const folder = sharedMemoryHasRoom() ? SHARED_MEMORY : this.folder
    const path = join(folder, `${this.prefix}${this.next++}.data`)
    const fd = openSync(path, 'wx', 0o600)
    let open = true
    const file: SpoolFile = {
      path,
      bytes: 0,
      write: (chunk) => {
        if (file.bytes + chunk.length > this.bodyBytesMax) throw new SpoolFull('body')
        if (this.held + chunk.length > this.bytesMax) throw new SpoolFull('all')
        this.held += chunk.length
        file.bytes += chunk.length
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at)
      },
      remove: () => {
        if (!open) return
        open = false
        this.held -= file.bytes
        closeSync(fd)
        rmSync(path, { force: true })
      },
    }
    return file
  }
}

/** How the files of one data folder begin: shared memory is shared with other folders' processes. */
export function spoolPrefix(dir: string): string {
  return `headrace-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}-`
}

/** The chunks of a request body, inflated when it is gzip. Nothing is kept: what is not asked for is not read. */
export async function* bodyChunks(request: Request): AsyncGenerator<Uint8Array> {
  if (!request.body) return
  const body = request.body as unknown as AsyncIterable<Uint8Array>
  if (request.headers.get('content-encoding') !== 'gzip') {
    yield* body
    return
  }
  const gunzip = createGunzip()
  const feeding = feed(body, gunzip)
  feeding.catch((error) => gunzip.destroy(error as Error))
  for await (const chunk of gunzip) yield chunk as Uint8Array
  await feeding
}

async function feed(body: AsyncIterable<Uint8Array>, gunzip: ReturnType<typeof createGunzip>): Promise<void> {
  for await (const chunk of body)
    if (!gunzip.write(chunk)) await new Promise((resolve) => gunzip.once('drain', resolve))
  gunzip.end()
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function sharedMemoryHasRoom(): boolean {
  try {
    const { bavail, bsize } = statfsSync(SHARED_MEMORY)
    return bavail * bsize > SHARED_MEMORY_FREE_BYTES_MIN
  } catch {
    return false
  }
}
