/**
 * Metrics of several processes as one page in Prometheus' text format: every sample gets the label `role`, and the
 * samples of one metric stand together under one HELP and TYPE, as the format demands.
 */
type Family = { head: string[]; samples: string[] }

/** `pages`: role → its `/metrics`. */
export function mergeMetrics(pages: ReadonlyMap<string, string>): string {
  const families = new Map<string, Family>()
  for (const [role, page] of pages) {
    let family: Family | undefined
    for (const line of page.split('\n')) {
      if (line === '') continue
      const head = /^# (HELP|TYPE) (\S+)/.exec(line)
      if (head) {
        const name = head[2]!
        family = families.get(name) ?? { head: [], samples: [] }
        families.set(name, family)
        if (!family.head.some((known) => known.startsWith(`# ${head[1]} `))) family.head.push(line)
      } else if (!line.startsWith('#')) {
        if (!family) {
          const name = /^[^\s{]+/.exec(line)?.[0] ?? line
          family = families.get(name) ?? { head: [], samples: [] }
          families.set(name, family)
        }
        family.samples.push(labelled(line, role))
      }
    }
  }
  let text = ''
  for (const { head, samples } of families.values()) text += [...head, ...samples, ''].join('\n')
  return text
}

/** A sample that names its role already (a stage may) keeps its own. */
function labelled(sample: string, role: string): string {
  const brace = sample.indexOf('{')
  const space = sample.indexOf(' ')
  if (brace < 0 || brace > space) return `${sample.slice(0, space)}{role="${role}"}${sample.slice(space)}`
  const close = sample.lastIndexOf('}')
  const labels = sample.slice(brace + 1, close)
  if (/(^|,)role="/.test(labels)) return sample
  return `${sample.slice(0, brace)}{role="${role}"${labels === '' ? '' : ','}${labels}${sample.slice(close)}`
}
