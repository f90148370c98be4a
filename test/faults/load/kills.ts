/**
 * Loaders, ClickHouse and the network between them, killed and cut at the failpoints of load, again and again, under
 * load. Every life of a loader is to end at one place in one form (forms.ts), and one that stood still at a second place,
 * which each insert passes; a few end anywhere, from outside. A life that waits for a row that ClickHouse refuses is given
 * one. Besides, now and then an insert is hurt on its way (wire.ts).
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { LoadFailpoint } from '../../../src/platform/index.ts'
import { deathsOf, leastMet, planFor, total } from '../failpoint-plan.ts'
import { LIVES_ON } from '../kept-process.ts'
import { FORMS, type Form, FormCounts, PLACES, type Plan } from './forms.ts'
import type { Rig } from './rig.ts'
import { HURTS, type Hurt } from './wire.ts'

/** Met only where ClickHouse refuses a row. */
const NEEDS_REFUSAL: ReadonlySet<LoadFailpoint> = new Set(['split', 'buried'])
/** Met by every insert: whoever stood still dies at one of them. */
const SURE = PLACES.filter((place) => !NEEDS_REFUSAL.has(place))
const LIKELIHOOD = { there: () => 0.5, elsewhere: 0.003 }
/** Of the lives. */
const OUTSIDE_SHARE = 0.1
const OUTSIDE_MS_MAX = 3_000
/** Of the inserts, while there are kills. */
const HURT_SHARE = 0.02
/**
 * The embedded log leaves its partitions to a sleeper, so it has no heir: it sleeps short of the lock's 10 s of silence,
 * or now and then beyond them. On Kafka it sleeps until its heir has gone on, or so long at most.
 */
const ZOMBIE_MS = { usual: 2_000, long: 13_000, longShare: 0.15, withHeirMax: 30_000 }
/** ClickHouse may be up again when the loader goes on, or not. */
const ENGINE_DOWN_MS_MAX = 300
/** A life that does not meet its place within this time of its work is ended from outside. */
const LIFE_MS_MAX = 20_000
const SPOIL_EVERY_MS = 1_000
const LOOK_MS = 20
const HEIR_LOOK_MS = 200
const SAY_EVERY = 100

/** Why a life ended from outside. */
type Outside = 'planned' | 'in vain' | 'power' | 'late insert'

export type KillReport = {
  kills: number
  /** Of them: at a place that was meant, alone or, when all lost power, as the one that stood there. */
  atPlaces: number
  /** Where loaders died by themselves. */
  byPlace: Record<string, number>
  /** Where a loader stood, and what died or slept then. */
  standing: Omit<Record<Form, Record<string, number>>, 'kill'>
  /** Sleepers that woke after their heirs had settled what they left open, and had gone on. */
  succeeded: number
  outside: Partial<Record<Outside, number>>
  hurt: Record<Hurt, number>
  msPerKill: number
}

type LifePlan = Plan | 'outside'

/**
 * Ends when loaders were killed `count` times, every form was met at each place, and every hurt, at least `least`
 * times; throws when one of them ended by itself.
 */
export async function killAtFailpoints(
  rig: Rig,
  count: number,
  least: number,
  withinMs: number,
): Promise<KillReport> {
  const kills = new Kills(rig)
  const from = performance.now()
  try {
    await kills.until(count, least, withinMs)
    // Before the end, which kills once more and is no test.
    const report = kills.report()
    return { ...report, msPerKill: Math.round((performance.now() - from) / report.kills) }
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${JSON.stringify(kills.report())}`, { cause: error })
  } finally {
    await kills.end()
  }
}

class Kills {
  private readonly counts = new FormCounts()
  private readonly counted: Record<string, number> = {}
  private readonly plans: (LifePlan | undefined)[] = []
  /** The life has stood still, and went on. */
  private readonly wentOn: boolean[] = []
  private readonly outside: Partial<Record<Outside, number>> = {}
  private readonly hurt: Record<Hurt, number> = { half_sent: 0, answer_lost: 0, late: 0 }
  /** Zombies to be. */
  private asleep = 0
  private succeeded = 0
  private running = true
  private said = 0
  private readonly watches: Promise<void>[]
  /** What was begun where a loader stood. */
  private readonly stands: Promise<void>[] = []

  constructor(private readonly rig: Rig) {
    rig.nextLife = (loader) => this.nextLife(loader)
    rig.stopped = (loader, place, goOn) => {
      this.stands.push(this.stand(loader, place as LoadFailpoint, goOn))
    }
    rig.hurt = () => this.nextHurt()
    rig.killedByHurt = (loader) => this.killFromOutside(loader, 'late insert')
    rig.begin()
    this.watches = rig.loaders.map((_, loader) => this.watch(loader))
  }

  async until(count: number, least: number, withinMs: number): Promise<void> {
    const { rig } = this
    const isDone = () => {
      const kills = total(this.deaths())
      if (Math.floor(kills / SAY_EVERY) > this.said) {
        this.said = Math.floor(kills / SAY_EVERY)
        rig.options.say(
          `${kills} kills, ClickHouse ${rig.engine.kills}; ${rig.rows} rows sent, ${rig.lag} behind`,
        )
      }
      const defect = rig.loaders.flatMap(({ defects }) => defects)[0]
      if (defect !== undefined) throw new Error(defect)
      if (kills < count) return false
      const forms = Object.keys(FORMS) as Form[]
      return (
        PLACES.every((place) => forms.every((form) => this.counts.of(form, place) >= least)) &&
        Object.values(this.hurt).every((times) => times >= least)
      )
    }
    await rig.until(`${count} kills, ${least} of each form at each place`, isDone, withinMs)
  }

  /** Whoever lives on has no place to die. */
  async end(): Promise<void> {
    const { rig } = this
    this.running = false
    rig.nextLife = () => LIVES_ON
    rig.stopped = (_, __, goOn) => goOn()
    rig.hurt = () => undefined
    await Promise.all([...this.watches, ...this.stands])
    for (const loader of rig.loaders) await loader.kill()
  }

  report(): Omit<KillReport, 'msPerKill'> {
    const byPlace = this.deaths()
    const { kill: _, ...standing } = this.counts.report()
    const { outside, hurt, succeeded } = this
    const kills = total(byPlace)
    const atPlaces = kills - (byPlace.outside ?? 0) + total(standing.power)
    return { kills, atPlaces, byPlace, standing, succeeded, outside, hurt }
  }

  private deaths(): Record<string, number> {
    const deaths = deathsOf(this.rig.loaders)
    for (const place of PLACES)
      for (let n = this.counted[place] ?? 0; n < (deaths[place] ?? 0); n++) {
        this.counted[place] = n + 1
        this.counts.add({ form: 'kill', place })
      }
    return deaths
  }

  private nextLife(loader: number): { failpoints: string; seed: number } {
    const { random } = this.rig
    this.deaths()
    this.wentOn[loader] = false
    const others = this.plans.map((plan, i) => (i === loader || plan === 'outside' ? undefined : plan))
    const plan = random() < OUTSIDE_SHARE ? 'outside' : this.counts.next(others, random)
    this.plans[loader] = plan
    const seed = Math.floor(random() * 2 ** 31)
    const place = plan === 'outside' ? PLACES[0]! : plan.place
    const there = plan === 'outside' ? () => LIKELIHOOD.elsewhere : LIKELIHOOD.there
    const stop = plan !== 'outside' && plan.form !== 'kill'
    const then = stop ? leastMet(SURE, this.counted, random) : undefined
    return { failpoints: planFor(place, PLACES, { ...LIKELIHOOD, there }, stop, then), seed }
  }

  private nextHurt(): Hurt | undefined {
    const { random } = this.rig
    if (random() >= HURT_SHARE) return undefined
    const least = Math.min(...HURTS.map((kind) => this.hurt[kind]))
    const kind = HURTS.find((one) => this.hurt[one] === least)!
    this.hurt[kind]++
    return kind
  }

  /** A loader stands still at its place. */
  private async stand(loader: number, place: LoadFailpoint, goOn: () => void): Promise<void> {
    const { rig } = this
    const plan = this.plans[loader]
    if (plan === undefined || plan === 'outside' || !this.running) return goOn()
    const { form } = plan
    this.counts.add({ form, place })
    if (form === 'power') {
      this.count('power', rig.loaders.length)
      await rig.losePower()
      return
    }
    if (form === 'engine') {
      this.stands.push(rig.engine.restart())
      await delay(rig.random() * ENGINE_DOWN_MS_MAX)
    } else {
      this.asleep++
      await this.sleep()
      this.asleep--
    }
    this.wentOn[loader] = true
    goOn()
  }

  private async sleep(): Promise<void> {
    const { rig } = this
    if (!rig.options.kafka)
      return delay(rig.random() < ZOMBIE_MS.longShare ? ZOMBIE_MS.long : ZOMBIE_MS.usual * rig.random())
    // While Postgres is away nobody is known to have gone on.
    const wentOn = await rig.heirs().catch(() => async () => false)
    const until = performance.now() + ZOMBIE_MS.withHeirMax
    while (performance.now() < until) {
      await delay(HEIR_LOOK_MS)
      if (!(await wentOn().catch(() => false))) continue
      this.succeeded++
      return
    }
  }

  /** Sees to it that each life of a loader ends. */
  private async watch(loader: number): Promise<void> {
    while (this.running) await this.watchLife(loader)
  }

  private async watchLife(number: number): Promise<void> {
    const { rig } = this
    const loader = rig.loaders[number]!
    const { ended } = loader
    const lives = () => this.running && loader.ended === ended
    while (lives() && !loader.isUp) await delay(LOOK_MS)
    const up = performance.now()
    const ownMs = OUTSIDE_MS_MAX * rig.random()
    let spoilt = Number.NEGATIVE_INFINITY
    while (lives()) {
      const now = performance.now()
      const plan = this.plans[number]
      if (plan === 'outside' && now > up + ownMs) return this.killFromOutside(number, 'planned')
      // While one sleeps, its heirs wait for it.
      if (now > up + LIFE_MS_MAX && this.asleep === 0) return this.killFromOutside(number, 'in vain')
      const waits = plan !== undefined && plan !== 'outside' && NEEDS_REFUSAL.has(plan.place)
      if (waits && !this.wentOn[number] && now > spoilt + SPOIL_EVERY_MS) {
        spoilt = now
        rig.spoil()
      }
      await delay(LOOK_MS)
    }
  }

  private async killFromOutside(loader: number, why: Outside): Promise<void> {
    this.count(why, 1)
    await this.rig.loaders[loader]!.kill()
  }

  private count(why: Outside, times: number): void {
    this.outside[why] = (this.outside[why] ?? 0) + times
  }
}
