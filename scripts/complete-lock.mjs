/**
 * Completes package-lock.json after `npm install`: a registry that carries a package for some platforms only makes
 * npm leave the others out, and `npm ci` then refuses the lockfile everywhere. What is added is what npm would have
 * written: the version that the parent asks for, optional, with the platform that its name says.
 *
 *   node scripts/complete-lock.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FILE = join(import.meta.dirname, '..', 'package-lock.json')
const OS = {
  darwin: 'darwin',
  linux: 'linux',
  win32: 'win32',
  windows: 'win32',
  android: 'android',
  freebsd: 'freebsd',
  openharmony: 'openharmony',
}
const CPU = {
  x64: 'x64',
  arm64: 'arm64',
  aarch64: 'arm64',
  arm: 'arm',
  ia32: 'ia32',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  s390x: 's390x',
  wasm32: 'wasm32',
}
const LIBC = { gnu: 'glibc', gnueabihf: 'glibc', musl: 'musl', musleabihf: 'musl' }

const lock = JSON.parse(readFileSync(FILE, 'utf8'))
const added = []
for (const parent of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const place = `node_modules/${name}`
    if (lock.packages[place] || !/^\d/.test(version)) continue
    lock.packages[place] = {
      version,
      ...platform(name),
      ...(parent.dev ? { dev: true } : {}),
      optional: true,
    }
    added.push(`${name}@${version}`)
  }
}
const root = lock.packages['']
const rest = Object.entries(lock.packages).filter(([place]) => place !== '')
lock.packages = { '': root, ...Object.fromEntries(rest.sort(([a], [b]) => (a < b ? -1 : 1))) }
writeFileSync(FILE, `${JSON.stringify(lock, undefined, 2)}\n`)
console.log(added.length === 0 ? 'nothing was missing' : `added ${added.length}: ${added.join(', ')}`)

function platform(name) {
  const words = name.split('/').at(-1).split('-')
  const of = (table) => words.map((word) => table[word]).filter((word) => word !== undefined)
  const [os, cpu, libc] = [of(OS), of(CPU), of(LIBC)]
  return {
    ...(cpu.length > 0 ? { cpu } : {}),
    ...(libc.length > 0 ? { libc } : {}),
    ...(os.length > 0 ? { os } : {}),
  }
}
