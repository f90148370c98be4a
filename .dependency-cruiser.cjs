/**
 * Who may import whom. A folder of src is a room with one door, index.ts. The vocabulary (event) imports nothing of
 * ours, the ground (platform, observe) only the vocabulary; the shared tools (log, catalog, warehouse) import
 * vocabulary and ground; stages import those and never each other; ledger and api look at every stage through its door; only the wiring (main.ts, cli, supervisor)
 * knows all. Tests (x.test.ts), and what the tests of one room share (x.fixture.ts), may look into any room; what several
 * rooms' tests share is in test/support. Types count: a type from another stage couples as much as a function.
 */
const GROUND = 'platform|observe'
const TOOLS = 'log|catalog|warehouse'
const STAGES = 'capture|ingest|transform|load|deadletters|deliver|export'
const READERS = 'ledger|definitions|deletion|squash|api'
const WIRING = 'cli|supervisor'
const TEST = '\\.(test|fixture)\\.ts$'

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'vocabulary-imports-nothing',
      comment: 'event imports nothing of ours.',
      severity: 'error',
      from: { path: '^src/event/', pathNot: TEST },
      to: { path: '^(src|test|bench|scripts)/', pathNot: '^src/event/' },
    },
    {
      name: 'ground-imports-vocabulary',
      comment: 'platform and observe import only event.',
      severity: 'error',
      from: { path: `^src/(${GROUND})/`, pathNot: TEST },
      to: { path: '^src/', pathNot: '^src/(event|$1)/' },
    },
    {
      name: 'tools-import-ground',
      comment: 'log, catalog and warehouse import only event, platform and observe.',
      severity: 'error',
      from: { path: `^src/(${TOOLS})/`, pathNot: TEST },
      to: { path: '^src/', pathNot: `^src/(event|${GROUND}|$1)/` },
    },
    {
      name: 'stages-stay-apart',
      comment: 'A stage imports event, the ground and the tools; what passes between stages is a record.',
      severity: 'error',
      from: { path: `^src/(${STAGES})/`, pathNot: `${TEST}|^src/ingest/` },
      to: { path: '^src/', pathNot: `^src/(event|${GROUND}|${TOOLS}|$1)/` },
    },
    {
      name: 'ingest-stays-apart',
      comment: 'ingest may also use transform.',
      severity: 'error',
      from: { path: '^src/ingest/', pathNot: TEST },
      to: { path: '^src/', pathNot: `^src/(event|${GROUND}|${TOOLS}|ingest|transform)/` },
    },
    {
      name: 'readers-do-not-wire',
      comment:
        'ledger, definitions, deletion, squash and api read every room through its door, but not the wiring.',
      severity: 'error',
      from: { path: `^src/(${READERS})/`, pathNot: TEST },
      to: { path: `^src/(main\\.ts$|(${WIRING})/)` },
    },
    {
      name: 'through-the-door',
      comment: 'Another room is imported through its index.ts only.',
      severity: 'error',
      from: { path: '^src/([^/]+)/', pathNot: TEST },
      to: { path: '^src/[^/]+/', pathNot: ['^src/$1/', '^src/[^/]+/index\\.ts$'] },
    },
    {
      name: 'main-through-the-door',
      severity: 'error',
      from: { path: '^src/[^/]+\\.ts$' },
      to: { path: '^src/[^/]+/', pathNot: '^src/[^/]+/index\\.ts$' },
    },
    {
      name: 'product-without-tests',
      comment: 'Nothing that ships imports tests, benchmarks or scripts.',
      severity: 'error',
      from: { path: '^src/', pathNot: TEST },
      to: { path: `^(test|bench|scripts)/|${TEST}` },
    },
    {
      name: 'product-without-dev-packages',
      severity: 'error',
      from: { path: '^src/', pathNot: TEST },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '^bun(:|$)' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    builtInModules: { add: ['bun', 'bun:ffi', 'bun:jsc', 'bun:sqlite', 'bun:test'] },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
}
