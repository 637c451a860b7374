// Messages against a public codec (dns-packet), RFC 1035 by hand, and garbage.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, type Packet } from 'dns-packet';
import fc from 'fast-check';
import { type IpAddress, ip } from '#net/ip.ts';
import {
  encodeAnswer,
  encodeFormatError,
  encodeRefusal,
  isAnswerTo,
  parseQuery,
  type Query,
  relayAnswer,
  udpLimit,
} from './message.ts';

const RECURSION_DESIRED = 1 << 8;

function wire(name: string, type: 'A' | 'AAAA' | 'SRV' = 'A', more: Partial<Packet> = {}): Buffer {
  return encode({
    type: 'query',
    id: 4711,
    flags: RECURSION_DESIRED,
    questions: [{ name, type }],
    ...more,
  });
}

function parsed(bytes: Uint8Array): Query {
  const result = parseQuery(bytes);
  assert.equal(result.kind, 'query', JSON.stringify(result));
  return (result as { query: Query }).query;
}

const OPT = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0x8000,
  flag_do: true,
  options: [],
} as const;
const withOpt = (udpPayloadSize: number): Partial<Packet> => ({
  additionals: [{ ...OPT, udpPayloadSize, options: [] }],
});

test('a query is read: name in lower case, type, class, EDNS', () => {
  const query = parsed(wire('Web.Shop.svc.cluster.LOCAL', 'AAAA', withOpt(1232)));
  assert.equal(query.name, 'web.shop.svc.cluster.local');
  assert.deepEqual([query.id, query.type, query.class], [4711, 28, 1]);
  assert.deepEqual(query.edns, { payloadBytes: 1232, version: 0, dnssecOk: true });
  assert.equal(udpLimit(query), 1232);
  assert.equal(udpLimit(parsed(wire('a'))), 512);
  assert.equal(udpLimit(parsed(wire('a', 'A', withOpt(100)))), 512);
});

test('the root, and labels that no host name has, are names too', () => {
  assert.equal(parsed(wire('.')).name, '');
  // One label "a.b": a dot inside it must not make it two.
  const dotted = Buffer.from('00000100000100000000000003612e620000010001', 'hex');
  assert.equal(parsed(dotted).name, undefined);
  const spaced = Buffer.from('000001000001000000000000036120620000010001', 'hex');
  assert.equal(parsed(spaced).name, undefined);
});

test('what is malformed is refused, what is an answer or no message is ignored', () => {
  const good = wire('web');
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(good);
    copy[at] = value;
    return copy;
  };
  const rcode = (bytes: Uint8Array): number | string => {
    const result = parseQuery(bytes);
    return result.kind === 'refused' ? result.rcode : result.kind;
  };
  assert.equal(rcode(good.subarray(0, 11)), 'ignored');
  assert.equal(rcode(changed(2, 0x81)), 'ignored', 'an answer as a query');
  assert.equal(rcode(changed(2, 0x11)), 4, 'opcode 2 (STATUS)');
  assert.equal(rcode(changed(5, 0)), 1, 'no question');
  assert.equal(rcode(changed(5, 2)), 1, 'two questions');
  assert.equal(rcode(changed(7, 1)), 1, 'a record that is not there');
  assert.equal(rcode(changed(12, 0xc0)), 1, 'a pointer in the question');
  assert.equal(rcode(changed(12, 64)), 1, 'a label of 64 bytes');
  assert.equal(rcode(good.subarray(0, good.length - 1)), 1, 'cut');
  const label = `3f${'61'.repeat(63)}`;
  const name = (lastBytes: number): Buffer =>
    Buffer.from(
      `000001000001000000000000${label.repeat(3)}${lastBytes.toString(16)}${'61'.repeat(lastBytes)}0000010001`,
      'hex',
    );
  assert.equal(rcode(name(61)), 'query', 'a name of 255 bytes');
  assert.equal(rcode(name(62)), 1, 'a name of 256 bytes');
  const twoOpts = wire('web', 'A', {
    additionals: [
      { ...OPT, options: [] },
      { ...OPT, options: [] },
    ],
  });
  assert.equal(rcode(twoOpts), 1, 'two OPT records');
});

test('what follows the last record is not passed on', () => {
  const good = wire('web', 'A', withOpt(1232));
  assert.deepEqual(Buffer.from(parsed(Buffer.concat([good, Buffer.from('junk')])).bytes), good);
});

test('an answer: question as asked, owners in lower case, TTL, flags', () => {
  const query = parsed(wire('Web.shop'));
  const bytes = encodeAnswer(
    query,
    { canonicalName: undefined, addresses: [ip('10.0.0.1'), ip('10.0.0.2')], ttlSeconds: 30 },
    512,
  );
  const answer = decode(bytes);
  assert.equal(answer.id, 4711);
  // QR, AA, RD, RA; no TC, no error.
  assert.equal(bytes.readUInt16BE(2), 0x8580);
  assert.deepEqual(answer.questions, [{ name: 'Web.shop', type: 'A', class: 'IN' }]);
  const record = { name: 'web.shop', type: 'A', class: 'IN', ttl: 30, flush: false };
  assert.deepEqual(answer.answers, [
    { ...record, data: '10.0.0.1' },
    { ...record, data: '10.0.0.2' },
  ]);
  assert.deepEqual(answer.additionals, []);
});

test('an alias: CNAME first, then the addresses of its target', () => {
  const query = parsed(wire('api.example.com.shop.svc.cluster.local', 'AAAA', withOpt(4096)));
  const answer = decode(
    encodeAnswer(
      query,
      { canonicalName: 'api.example.com', addresses: [ip('2001:db8::7')], ttlSeconds: 30 },
      4096,
    ),
  );
  assert.deepEqual(
    answer.answers?.map((record) => [record.name, record.type, 'data' in record ? record.data : undefined]),
    [
      ['api.example.com.shop.svc.cluster.local', 'CNAME', 'api.example.com'],
      ['api.example.com', 'AAAA', '2001:db8::7'],
    ],
  );
  const [opt] = answer.additionals ?? [];
  assert.ok(opt?.type === 'OPT');
  assert.deepEqual([opt.udpPayloadSize, opt.ednsVersion, opt.flag_do], [4096, 0, true]);
});

test('what does not fit is left out and the answer marked as truncated; the OPT record always fits', () => {
  const addresses = Array.from({ length: 300 }, (_, index) => ip(`10.0.${index >> 8}.${index & 255}`));
  const content = { canonicalName: undefined, addresses, ttlSeconds: 30 };
  const query = parsed(wire('web', 'A', withOpt(512)));
  const bytes = encodeAnswer(query, content, 512);
  const answer = decode(bytes);
  assert.equal(answer.flag_tc, true);
  // Header 12, question 9, OPT 11, records of 16 bytes each: 30 of them.
  assert.equal(answer.answers?.length, 30);
  assert.equal(answer.additionals?.[0]?.type, 'OPT');
  const whole = decode(encodeAnswer(query, content, 65_535));
  assert.equal(whole.flag_tc, false);
  assert.equal(whole.answers?.length, 300);
});

test('answers of any size are bounded and readable', () => {
  const address = fc.oneof(
    fc.ipV4().map((text) => ip(text)),
    fc.ipV6().map((text) => ip(text)),
  );
  fc.assert(
    fc.property(
      fc.array(address, { maxLength: 100 }),
      fc.option(fc.constantFrom('example.com', 'a.b'), { nil: undefined }),
      fc.integer({ min: 512, max: 3000 }),
      fc.boolean(),
      (addresses: IpAddress[], canonicalName, limitBytes, hasEdns) => {
        const query = parsed(wire('some.name.Example.com', 'A', hasEdns ? withOpt(limitBytes) : {}));
        const bytes = encodeAnswer(query, { canonicalName, addresses, ttlSeconds: 30 }, limitBytes);
        assert.ok(bytes.length <= limitBytes);
        const answer = decode(bytes);
        const expected = addresses.length + (canonicalName === undefined ? 0 : 1);
        assert.equal(answer.flag_tc, answer.answers?.length !== expected);
        const owner = canonicalName ?? 'some.name.example.com';
        for (const record of answer.answers ?? [])
          assert.equal(record.name, record.type === 'CNAME' ? 'some.name.example.com' : owner);
      },
    ),
  );
});

test('garbage never throws, and whatever is understood can be answered', () => {
  const mutated = fc
    .tuple(
      fc.constantFrom(wire('web.shop.svc.cluster.local', 'A', withOpt(1232)), wire('x', 'SRV')),
      fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }),
      fc.nat(80),
    )
    .map(([bytes, changes, cut]) => {
      const copy = Buffer.from(bytes);
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy.subarray(0, Math.max(copy.length - Math.max(cut - 40, 0), 0));
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 600 }), mutated), (bytes) => {
      const result = parseQuery(bytes);
      if (result.kind === 'ignored') return;
      if (result.kind === 'refused') {
        assert.equal(encodeFormatError(bytes, result.rcode).length, 12);
        return;
      }
      const { query } = result;
      assert.ok((query.name ?? '').length <= 254);
      assert.ok(encodeRefusal(query, 2).length <= 12 + 259 + 11);
      // Our own answer is an answer to it, in whatever spelling the name came.
      assert.ok(isAnswerTo(query, query.id, encodeRefusal(query, 2)));
    }),
    { numRuns: 2000 },
  );
});

test('only an answer to the question, under the id, counts', () => {
  const query = parsed(wire('web.shop'));
  const response = encode({ type: 'response', id: 99, questions: [{ name: 'web.shop', type: 'A' }] });
  assert.ok(isAnswerTo(query, 99, response));
  assert.ok(!isAnswerTo(query, 98, response));
  assert.ok(!isAnswerTo(query, 99, wire('web.shop')));
  const other = encode({ type: 'response', id: 99, questions: [{ name: 'wex.shop', type: 'A' }] });
  assert.ok(!isAnswerTo(query, 99, other));
  const empty = (rcode: number): Buffer => encode({ type: 'response', id: 99, flags: rcode });
  assert.ok(isAnswerTo(query, 99, empty(1)), 'FORMERR without the question');
  assert.ok(!isAnswerTo(query, 99, empty(0)));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => void isAnswerTo(query, 99, bytes)));
});

test('another server’s answer is passed on under the asker’s id, as not ours, and cut when it is too large', () => {
  const query = parsed(wire('web.shop'));
  const response = encode({
    type: 'response',
    id: 99,
    flags: (1 << 10) | 3,
    questions: [{ name: 'web.shop', type: 'A' }],
    authorities: [{ type: 'NS', name: 'shop', data: 'ns.shop' }],
  });
  const relayed = relayAnswer(query, Buffer.from(response), 512);
  assert.equal(relayed.readUInt16BE(0), 4711);
  assert.equal(relayed.readUInt16BE(2), 0x8083, 'QR, RA, NXDOMAIN; not AA');
  assert.deepEqual(relayed.subarray(12), response.subarray(12));
  const cut: Partial<ReturnType<typeof decode>> & { rcode?: string } = decode(
    relayAnswer(query, Buffer.from(response), 30),
  );
  assert.deepEqual([cut.id, cut.flag_tc, cut.rcode], [4711, true, 'NXDOMAIN']);
});
