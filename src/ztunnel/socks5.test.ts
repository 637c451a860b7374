// Expected bytes written by hand from RFC 1928.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SocksNegotiation, type SocksStep, socksReply } from './socks5.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const GREETING = hex('05 01 00');
const V4 = hex('05 01 00 01 0a600007 0050');

function run(bytes: Buffer, cut: number): SocksStep[] {
  const negotiation = new SocksNegotiation();
  const steps: SocksStep[] = [];
  for (let at = 0; at < bytes.length; at += cut) {
    let step = negotiation.push(bytes.subarray(at, at + cut));
    while (step.kind === 'reply') {
      steps.push(step);
      step = negotiation.push(new Uint8Array());
    }
    if (step.kind === 'more') continue;
    steps.push(step);
    // What follows is not the negotiation's any more.
    break;
  }
  return steps;
}

const TARGETS: Readonly<Record<string, readonly [string, object]>> = {
  'an IPv4 address': ['05 01 00 01 0a600007 0050', { kind: 'ip', ip: '10.96.0.7', port: 80 }],
  'an IPv6 address': [
    '05 01 00 04 20010db8000000000000000000000001 01bb',
    { kind: 'ip', ip: '2001:db8::1', port: 443 },
  ],
  'a name, in lower case and without its final dot': [
    `05 01 00 03 09 ${Buffer.from('Web.Shop.').toString('hex')} 1f90`,
    { kind: 'host', host: 'web.shop', port: 8080 },
  ],
};
for (const [what, [request, target]] of Object.entries(TARGETS))
  test(`CONNECT to ${what}, however it is cut`, () => {
    const bytes = Buffer.concat([GREETING, hex(request)]);
    for (let cut = 1; cut <= bytes.length; cut++) {
      const [reply, asked] = run(bytes, cut);
      assert.deepEqual(reply, { kind: 'reply', bytes: hex('05 00') });
      assert.deepEqual(asked, { kind: 'request', target, rest: Buffer.alloc(0) });
    }
  });

test('what comes behind the request is the connection’s', () => {
  const [, asked] = run(Buffer.concat([GREETING, V4, Buffer.from('GET /')]), 100);
  assert.equal(asked?.kind === 'request' && String(asked.rest), 'GET /');
});

const REFUSED: Readonly<Record<string, readonly [string, string, RegExp]>> = {
  SOCKS4: ['04 01', '0507000100000000 0000', /version 4/],
  'a greeting without methods': ['05 00', '05 ff', /authenticate/],
  'user name and password only': ['05 01 02', '05 ff', /authenticate/],
  BIND: ['05 01 00 05 02 00 01 0a600007 0050', '0507000100000000 0000', /command 2/],
  'UDP ASSOCIATE': ['05 01 00 05 03 00 01 0a600007 0050', '0507000100000000 0000', /command 3/],
  'an unknown kind of address': ['05 01 00 05 01 00 02 0a600007 0050', '0507000100000000 0000', /type 2/],
  'port 0': ['05 01 00 05 01 00 01 0a600007 0000', '0507000100000000 0000', /port 0/],
  'an empty name': ['05 01 00 05 01 00 03 00 0050', '0507000100000000 0000', /name/],
  'a name with a blank': ['05 01 00 05 01 00 03 03 612062 0050', '0507000100000000 0000', /name/],
};
for (const [what, [bytes, reply, reason]] of Object.entries(REFUSED))
  test(`${what} is refused`, () => {
    const last = run(hex(bytes), 1).at(-1);
    assert.equal(last?.kind, 'refused');
    assert.equal(last.bytes.toString('hex'), reply.replaceAll(' ', ''));
    assert.match(last.reason, reason);
  });

test('a reply of success names no address', () => {
  assert.equal(socksReply(0).toString('hex'), '05000001000000000000');
});

test('any bytes are waited on, refused or read', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, isGreeted) => {
      const steps = run(Buffer.concat([isGreeted ? GREETING : Buffer.alloc(0), bytes]), 7);
      for (const step of steps) if (step.kind === 'request') assert.ok(step.target.port > 0);
    }),
  );
});
