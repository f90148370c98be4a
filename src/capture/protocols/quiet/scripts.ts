/**
 * `/static/array.js` and its neighbours: the browser SDK for pages that load it by the HTML snippet, so that the swap
 * of the host name is all that such a page needs. Served from the published package `posthog-js` beside us, unmodified;
 * without it (a deployment whose pages bundle their SDK) these paths are 404 and say what to install.
 *
 * `/static/<name>.js` is what the snippet asks for, `/static/<version>/<name>.js` what a pinned page asks for; a version
 * that we do not have is refused, because parts of different versions do not fit together.
 * Costs: each script is read and compressed once, on another thread; the package has some 12 MB of them.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { constants, gzip } from 'node:zlib'
import { type Answer, captureError } from '../../errors.ts'
import type { CaptureRequest, Route } from '../../request.ts'
import { etagOf, GET, hasIt, JAVASCRIPT } from './answers.ts'

const STATIC_PATH = /^\/static\/(?:(\d+(?:\.\d+){0,2})\/)?([a-z0-9.-]{1,64}\.js)$/
/** A snippet without a version gets a new release of the SDK within the hour; a version never changes. */
const LATEST_CACHE = 'public, max-age=3600'
const VERSION_CACHE = 'public, max-age=31536000, immutable'

const compress = promisify(gzip)

type Script = { plain: Uint8Array<ArrayBuffer>; gzipped: Uint8Array<ArrayBuffer>; etag: string }

/** The scripts of one folder of the package. One per process. */
export class BrowserScripts {
  private readonly scripts = new Map<string, Promise<Script>>()

  private constructor(
    private readonly folder: string,
    readonly version: string,
    private readonly names: ReadonlySet<string>,
  ) {}

  /** The package as `from` would import it; undefined when it is not installed. */
  static find(from: string): BrowserScripts | undefined {
    let manifest: string
    try {
      manifest = Bun.resolveSync('posthog-js/package.json', from)
    } catch {
      return undefined
    }
    const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }
    const folder = join(dirname(manifest), 'dist')
    return new BrowserScripts(folder, version, new Set(readdirSync(folder)))
  }

  /** Undefined when the package has no such script, or not in this version (`1` stands for every 1.x). */
  script(name: string, version: string | undefined): Promise<Script> | undefined {
    if (!this.names.has(name)) return undefined
    if (version !== undefined && !`${this.version}.`.startsWith(`${version}.`)) return undefined
    let script = this.scripts.get(name)
    if (script === undefined) {
      script = load(join(this.folder, name))
      this.scripts.set(name, script)
      // A disk that fails once is asked again.
      script.catch(() => this.scripts.delete(name))
    }
    return script
  }
}

async function load(file: string): Promise<Script> {
  const plain = await readFile(file)
  const gzipped = await compress(plain, { level: constants.Z_BEST_COMPRESSION })
  return { plain, gzipped, etag: etagOf(plain) }
}

let found: { scripts: BrowserScripts | undefined } | undefined

/** The route of a script; undefined for other paths. */
export function staticRoute(path: string): Route | undefined {
  const match = STATIC_PATH.exec(path)
  if (!match) return undefined
  const [, version, name] = match
  return {
    methods: GET,
    label: '/static',
    answer: (incoming) => {
      found ??= { scripts: BrowserScripts.find(import.meta.dirname) }
      return answerScript(incoming, found.scripts, name!, version)
    },
  }
}

export async function answerScript(
  incoming: CaptureRequest,
  scripts: BrowserScripts | undefined,
  name: string,
  version: string | undefined,
): Promise<Answer> {
  const script = await scripts?.script(name, version)
  if (!script) throw captureError('HR_CAPTURE_NOT_FOUND', whyNot(scripts, name, version))
  const headers: Record<string, string> = {
    etag: script.etag,
    'cache-control': version === scripts!.version ? VERSION_CACHE : LATEST_CACHE,
    vary: 'origin, accept-encoding',
  }
  if (hasIt(incoming, script.etag)) return { status: 304, body: '', headers }
  if (!/\bgzip\b/.test(incoming.request.headers.get('accept-encoding') ?? '')) {
    return { status: 200, body: script.plain, contentType: JAVASCRIPT, headers }
  }
  headers['content-encoding'] = 'gzip'
  return { status: 200, body: script.gzipped, contentType: JAVASCRIPT, headers }
}

function whyNot(scripts: BrowserScripts | undefined, name: string, version: string | undefined): string {
  if (!scripts) {
    return 'the browser SDK is not installed beside capture: run `npm install posthog-js` there, or bundle it with the page'
  }
  const asked = version === undefined ? name : `${name} of version ${version}`
  return `the browser SDK that is served here, posthog-js ${scripts.version}, has no ${asked}`
}
