/**
 * Which events of a batch each destination wants. In: a batch and some destinations. Out: per destination the indexes of
 * the events that match. Destinations are found by project and event name, so one that names other events costs
 * nothing; conditions are asked only of those that are left.
 */
import type { Batch } from './batch.ts'
import type { Runtime } from './runtime.ts'

/** Of one project. */
type Interested = { byName: Map<string, Runtime[]>; all: Runtime[] }

export class Selector {
  private readonly projects = new Map<number, Interested>()

  constructor(runtimes: Iterable<Runtime>) {
    for (const runtime of runtimes) {
      const { teamId } = runtime.destination
      const interested: Interested = this.projects.get(teamId) ?? { byName: new Map(), all: [] }
      this.projects.set(teamId, interested)
      if (!runtime.names) interested.all.push(runtime)
      for (const name of runtime.names ?? []) {
        const named = interested.byName.get(name)
        if (named) named.push(runtime)
        else interested.byName.set(name, [runtime])
      }
    }
  }

  select(batch: Batch): Map<Runtime, number[]> {
    const wanted = new Map<Runtime, number[]>()
    const ask = (runtimes: readonly Runtime[], index: number) => {
      const view = batch.views[index]!
      for (const runtime of runtimes) {
        if (runtime.matches && !runtime.matches(view)) continue
        const indexes = wanted.get(runtime)
        if (indexes) indexes.push(index)
        else wanted.set(runtime, [index])
      }
    }
    for (let index = 0; index < batch.views.length; index++) {
      const view = batch.views[index]!
      const interested = this.projects.get(view.teamId)
      if (!interested) continue
      if (interested.all.length > 0) ask(interested.all, index)
      if (interested.byName.size === 0) continue
      const named = interested.byName.get(view.name)
      if (named) ask(named, index)
    }
    return wanted
  }
}
