/**
 * How a life of a loader ends, and where: each form at each place as often as its share says, the one that was met least
 * comes next. Plain counting.
 */
import { FAILPOINTS, type LoadFailpoint } from '../../../src/platform/index.ts'

export const PLACES = Object.keys(FAILPOINTS.load) as LoadFailpoint[]

/** With its share of the lives. */
export const FORMS = {
  /** The loader dies. */
  kill: 5,
  /** The loader stands still, ClickHouse is killed, the loader goes on, and dies at another place. */
  engine: 1.5,
  /** The loader sleeps until its heirs have done its work, or have had time to, wakes, and dies at another place. */
  zombie: 1,
  /** All loaders, ClickHouse and Postgres die at one moment. */
  power: 0.5,
} as const
export type Form = keyof typeof FORMS
export type Plan = { form: Form; place: LoadFailpoint }

export class FormCounts {
  private readonly met = new Map<string, number>()

  add({ form, place }: Plan): void {
    const key = keyOf(form, place)
    this.met.set(key, (this.met.get(key) ?? 0) + 1)
  }

  of(form: Form, place: LoadFailpoint): number {
    return this.met.get(keyOf(form, place)) ?? 0
  }

  /** One that is behind its share the most, and is not under way. */
  next(underWay: readonly (Plan | undefined)[], random: () => number): Plan {
    const plans = (Object.keys(FORMS) as Form[])
      .flatMap((form) => PLACES.map((place) => ({ form, place })))
      .filter(({ form, place }) => !underWay.some((plan) => plan?.form === form && plan.place === place))
    const behind = ({ form, place }: Plan) => this.of(form, place) / FORMS[form]
    const least = Math.min(...plans.map(behind))
    const rare = plans.filter((plan) => behind(plan) === least)
    return rare[Math.floor(random() * rare.length)]!
  }

  /** Form → place → how often; what never was is not named. */
  report(): Record<Form, Record<string, number>> {
    const by = (form: Form) =>
      Object.fromEntries(
        PLACES.flatMap((place) => (this.of(form, place) > 0 ? [[place, this.of(form, place)]] : [])),
      )
    return { kill: by('kill'), engine: by('engine'), zombie: by('zombie'), power: by('power') }
  }
}

function keyOf(form: Form, place: LoadFailpoint): string {
  return `${form} ${place}`
}
