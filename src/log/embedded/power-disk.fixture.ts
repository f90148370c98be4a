/**
 * A disk for tests that knows what an fdatasync covered, so that a copy of the folder can be made as a power cut
 * would leave it: of what no sync covered, all, nothing or any sectors are there, or rubbish. Several processes are
 * played by several logs with an `operations` each; stopping one and closing its log leaves the files as a kill does.
 */
import {
  fstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { SEGMENT_HEADER_BYTES } from './format.ts'
import { JOURNAL_HEADER_BYTES } from './journal-format.ts'
import { type FileOperations, OPERATIONS } from './options.ts'

const SECTOR_BYTES = 512

/** What stays of that which no sync covered. */
export type Loss = 'all stays' | 'nothing stays' | 'sectors stay' | 'a part stays' | 'rubbish'
export const LOSSES: Loss[] = ['all stays', 'nothing stays', 'sectors stay', 'a part stays', 'rubbish']

/** Small deterministic numbers, so that a failing run can be repeated. */
export function randomOf(seed: number): () => number {
  let state = seed * 2654435761
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** The disk as one process sees it. */
export type Attached = { operations: FileOperations; stop(): void }

export class PowerDisk {
  /** Bytes as of the last sync, by path within the folder. */
  private readonly durable = new Map<string, Buffer>()
  /** Number of the sync that it is of: one that began earlier may end later. */
  private readonly asOf = new Map<string, number>()
  private stopped = false
  /** Called before each sync with the path and how many there were; one that throws makes it fail. */
  onSync: (path: string, count: number) => void | Promise<void> = () => {}
  syncs = 0

  /** What is in the folder when the machine starts is on the disk. */
  constructor(
    readonly dir: string,
    private readonly bootId: string,
  ) {
    for (const path of filesIn(dir)) this.durable.set(path, readFileSync(join(dir, path)))
  }

  /** A process that uses the disk. */
  attach(): Attached {
    let stopped = false
    const check = () => {
      if (stopped || this.stopped) throw Object.assign(new Error('no power'), { code: 'EIO' })
    }
    return {
      operations: {
        diskUsedRatio: () => 0,
        bootId: this.bootId,
        fdatasync: async (fd) => {
          const path = readlinkSync(`/proc/self/fd/${fd}`).slice(this.dir.length + 1)
          const bytes = Buffer.alloc(fstatSync(fd).size)
          readSync(fd, bytes, 0, bytes.length, 0)
          check()
          const number = ++this.syncs
          await this.onSync(path, number)
          check()
          await OPERATIONS.fdatasync(fd)
          check()
          if (number < (this.asOf.get(path) ?? 0)) return
          this.durable.set(path, bytes)
          this.asOf.set(path, number)
        },
      },
      stop: () => {
        stopped = true
      },
    }
  }

  /** No sync succeeds any more, in any process. */
  stop(): void {
    this.stopped = true
  }

  /** How much of a file is on the disk for sure. */
  durableBytes(path: string): number {
    return this.durable.get(path)?.length ?? 0
  }

  /** The folder as the machine finds it when it starts again. Head files may be of any time since it started. */
  async cutPower(to: string, loss: Loss | (() => Loss), random: () => number): Promise<void> {
    await cp(this.dir, to, { recursive: true })
    for (const path of filesIn(to)) {
      const now = readFileSync(join(to, path))
      // Both are made durably, with their header; a journal full of zeros.
      const made = path.endsWith('.seg')
        ? now.subarray(0, SEGMENT_HEADER_BYTES)
        : Buffer.concat([now.subarray(0, JOURNAL_HEADER_BYTES)], now.length)
      const before = this.durable.get(path) ?? made
      writeFileSync(join(to, path), afterLoss(before, now, typeof loss === 'string' ? loss : loss(), random))
    }
  }
}

function afterLoss(before: Buffer, now: Buffer, loss: Loss, random: () => number): Buffer {
  if (loss === 'all stays' || before.equals(now)) return now
  if (loss === 'nothing stays') return before
  const image = Buffer.concat([before], now.length)
  const whole = random() * now.length
  for (let at = 0; at < now.length; at += SECTOR_BYTES) {
    const end = Math.min(now.length, at + SECTOR_BYTES)
    if (before.subarray(at, end).equals(now.subarray(at, end))) continue
    if (loss === 'a part stays' ? at < whole : random() < 0.5) now.copy(image, at, at, end)
    else if (loss === 'rubbish')
      // A sector that was begun after the last sync may hold anything.
      for (let i = Math.max(at, before.length); i < end; i++) image[i] = random() * 256
  }
  return loss === 'a part stays' && before.length < now.length
    ? image.subarray(0, Math.max(before.length, Math.floor(whole)))
    : image
}

/** Segments and journals, by their paths within the folder. */
function filesIn(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter(
    (path) => /\.(seg|journal)$/.test(path) && statSync(join(dir, path)).isFile(),
  )
}
