import { expect, test } from 'bun:test'
import { rootDomain } from './root-domain.ts'

test.each([
  ['a bare domain', 'example.com', 'example.com'],
  ['a subdomain', 'www.shop.example.com', 'example.com'],
  ['a public suffix of two labels', 'a.b.example.co.uk', 'example.co.uk'],
  ['a private suffix counts as a domain of its owner', 'someone.github.io', 'github.io'],
  ['with scheme and path', 'https://www.example.com/a?b#c', 'example.com'],
  ['with a port', 'sub.example.com:8000', 'example.com:8000'],
  ['the usual port of the scheme is none', 'https://example.com:443', 'example.com'],
  ['upper case', 'WWW.EXAMPLE.COM', 'example.com'],
  ['not ASCII', 'www.bücher.example', 'xn--bcher-kva.example'],
  ['an unknown suffix', 'app.internal.corp', 'internal.corp'],
  ['one label', 'intranet', 'intranet'],
  ['localhost', 'localhost', '127.0.0.1'],
  ['localhost with a port', 'http://localhost:3000', '127.0.0.1:3000'],
  ['an address', '192.168.0.1', '192.168.0.1'],
  ['an address with a port', '192.168.0.1:8080', '192.168.0.1:8080'],
  ['an address of version 6', '2001:0DB8:0:0::1', '[2001:db8::1]'],
  ['the same in brackets, with a port', 'http://[2001:db8:0::1]:8000', '[2001:db8::1]:8000'],
  ['not a host', 'not a host', 'not a host'],
])('%s', (_rule, host, expected) => {
  expect(rootDomain(host)).toBe(expected)
  expect(rootDomain(host)).toBe(expected)
})

test('more hosts than are remembered', () => {
  for (let i = 0; i < 5_000; i++) expect(rootDomain(`a.site-${i}.com`)).toBe(`site-${i}.com`)
})
