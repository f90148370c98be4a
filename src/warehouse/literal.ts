/** A text as a value in the text of a query: whatever stands in it, it stays a value. */
export function textLiteral(text: string): string {
  return `unhex('${Buffer.from(text).toString('hex')}')`
}
