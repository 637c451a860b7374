import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseResolvConf } from './resolv-conf.ts';

test('servers in order, at most three; options within the C library’s bounds', () => {
  const text = `# written by hand
search istio-system.svc.cluster.local svc.cluster.local
nameserver 10.96.0.10
nameserver fd00::a ; the other
nameserver not-an-address
nameserver 1.1.1.1
nameserver 8.8.8.8
options ndots:5 timeout:3 attempts:99 rotate edns0
`;
  assert.deepEqual(parseResolvConf(text), {
    servers: [
      { ip: '10.96.0.10', port: 53 },
      { ip: 'fd00::a', port: 53 },
      { ip: '1.1.1.1', port: 53 },
    ],
    timeoutMs: 3000,
    attempts: 5,
    rotate: true,
  });
});

test('defaults, and what cannot be read', () => {
  const defaults = { servers: [], timeoutMs: 5000, attempts: 2, rotate: false };
  assert.deepEqual(parseResolvConf(''), defaults);
  assert.deepEqual(parseResolvConf('nameserver\noptions timeout:x attempts:\n\0'), defaults);
  assert.deepEqual(parseResolvConf('options timeout:0'), { ...defaults, timeoutMs: 1000 });
});

test('a comment sets no options where lines end in CR LF', () => {
  const { attempts, rotate } = parseResolvConf('options rotate # attempts:5\r\n');
  assert.deepEqual([attempts, rotate], [2, true]);
});
