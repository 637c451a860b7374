import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import type { MeshError } from '#base/errors.ts';
import { ip, ipToBytes } from '#net/ip.ts';
import { createResolver, type DnsAnswer, type QueryDns, type ResolveHostname, systemDns } from './resolve.ts';

interface Rig {
  readonly resolve: ResolveHostname;
  readonly asked: string[];
  nowMs: number;
}

function rig(answers: (hostname: string, family: 4 | 6) => readonly DnsAnswer[], ipv6 = true): Rig {
  const asked: string[] = [];
  const query: QueryDns = async (hostname, family) => {
    asked.push(`${hostname} ${family}`);
    return answers(hostname, family);
  };
  const made = { asked, nowMs: 0 };
  const clock = { now: () => 0, monotonicMs: () => made.nowMs };
  const resolve = createResolver({ query, clock }, { ipv6, maxNames: 2 });
  return Object.assign(made, { resolve });
}

const both = (_hostname: string, family: 4 | 6): readonly DnsAnswer[] =>
  family === 4 ? [{ address: '192.0.2.1', ttl: 60 }] : [{ address: '2001:db8::1', ttl: 30 }];

const rejection = async (promise: Promise<unknown>): Promise<MeshError> =>
  promise.then(
    () => assert.fail('expected a rejection'),
    (error: MeshError) => error,
  );

test('both families are asked at once, or IPv4 alone where IPv6 is off', async () => {
  const dual = rig(both);
  assert.deepEqual(await dual.resolve('db.example.com'), ['192.0.2.1', '2001:db8::1']);
  assert.deepEqual(dual.asked, ['db.example.com 4', 'db.example.com 6']);
  const four = rig(both, false);
  assert.deepEqual(await four.resolve('db.example.com'), ['192.0.2.1']);
  assert.deepEqual(four.asked, ['db.example.com 4']);
});

test('an answer is kept as long as its shortest TTL; callers of one name share one question', async () => {
  const it = rig(both);
  await Promise.all([it.resolve('a.example'), it.resolve('a.example')]);
  it.nowMs = 29_999;
  await it.resolve('a.example');
  assert.equal(it.asked.length, 2);
  it.nowMs = 30_000;
  await it.resolve('a.example');
  assert.equal(it.asked.length, 4);
});

test('a TTL of 0 does not ask for every connection, a long one does not keep an answer for ever', async () => {
  const it = rig((hostname) => [{ address: '192.0.2.1', ttl: hostname === 'zero' ? 0 : 86_400 }], false);
  await it.resolve('zero');
  it.nowMs = 999;
  await it.resolve('zero');
  assert.equal(it.asked.length, 1);
  await it.resolve('day');
  it.nowMs = 300_999;
  await it.resolve('day');
  assert.equal(it.asked.length, 3);
});

test('the number of names is bounded; the one asked longest ago goes', async () => {
  const it = rig(both, false);
  for (const name of ['a', 'b', 'c', 'b', 'a']) await it.resolve(name);
  assert.deepEqual(it.asked, ['a 4', 'b 4', 'c 4', 'a 4']);
});

test('one family is enough; without any the failure names the host and is not kept', async () => {
  const half = rig((_hostname, family) => {
    if (family === 6) throw new Error('queryAaaa ENODATA');
    return [{ address: '192.0.2.1', ttl: 60 }];
  });
  assert.deepEqual(await half.resolve('db.example.com'), ['192.0.2.1']);
  let fails = true;
  const broken = rig((hostname, family) => {
    if (fails) throw new Error(`queryA ENOTFOUND ${hostname}`);
    return both(hostname, family);
  });
  const error = await rejection(broken.resolve('nowhere.example'));
  assert.equal(error.code, 'NO_ROUTE');
  assert.match(error.message, /^the host name nowhere\.example could not be resolved: queryA ENOTFOUND/);
  fails = false;
  assert.equal((await broken.resolve('nowhere.example')).length, 2);
  const empty = rig(() => []);
  assert.match((await rejection(empty.resolve('x.example'))).message, /it has no addresses/);
});

test('the system’s servers are asked over the wire, for both families with their TTL', async () => {
  // A server of our own that answers every question for an address with one record.
  const server = createSocket('udp4');
  server.on('message', (query, { address, port }) => {
    const type = query.readUInt16BE(query.length - 4 - optionBytes(query));
    const question = query.subarray(12, query.length - optionBytes(query));
    const record = type === 1 ? [192, 0, 2, 7] : [...ipToBytes(ip('2001:db8::7'))];
    const header = Buffer.from([query[0]!, query[1]!, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    const answer = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, record.length, ...record]);
    server.send(Buffer.concat([header, question, answer]), port, address);
  });
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
  try {
    const query = systemDns([`127.0.0.1:${server.address().port}`]);
    assert.deepEqual(await query('db.example.com', 4), [{ address: '192.0.2.7', ttl: 60 }]);
    assert.deepEqual(await query('db.example.com', 6), [{ address: '2001:db8::7', ttl: 60 }]);
  } finally {
    server.close();
  }
});

/** The length of a query's EDNS record, its last, if it has one (without options). */
function optionBytes(query: Buffer): number {
  return query.readUInt16BE(10) === 0 ? 0 : 11;
}
