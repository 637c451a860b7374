// The DNS proxy of one pod over real sockets: what it answers itself, what it asks others, and what it withstands.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { after, test } from 'node:test';
import { encode } from 'dns-packet';
import fc from 'fast-check';
import { createPendingBudget } from '#dns/budget.ts';
import { framed } from '#dns/tcp-exchange.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import { serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { until } from '../lib/until.ts';
import {
  askTcp,
  askUdp,
  type Behaviour,
  nobody,
  oneAddress,
  query,
  readMessages,
  response,
  startDns,
  startUpstream,
  type TestDns,
  type TestDnsOptions,
  type Upstream,
} from './dns-rig.ts';

const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

const CART = workloadOf({ name: 'cart', namespace: 'shop', canonicalName: 'cart' });
const known = { current: () => CART, get: () => Promise.resolve(CART) };

async function upstream(behaviour: Behaviour): Promise<Upstream> {
  const one = await startUpstream(behaviour);
  closers.push(() => one.close());
  return one;
}

async function dnsWith(options: Partial<TestDnsOptions>): Promise<TestDns> {
  const dns = await startDns({ client: known, servers: [], ...options });
  closers.push(() => dns.close());
  const web = serviceOf({ name: 'web', namespace: 'shop', vips: [{ network: '', ip: ip('10.96.0.7') }] });
  dns.store.apply({ addresses: [{ kind: 'service', service: web }] });
  return dns;
}

const OPT = {
  type: 'OPT' as const,
  name: '.' as const,
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};

const dataOf = (packet: { answers?: readonly unknown[] | undefined }): unknown[] =>
  (packet.answers ?? []).map((record) => (record as { data?: unknown }).data);

test('a service is answered by the mesh, over UDP and TCP; nobody else is asked', async () => {
  const other = await upstream(oneAddress);
  const dns = await dnsWith({ servers: [other.address] });
  const answer = await askUdp(dns.port, query('web.shop'));
  assert.deepEqual([answer.id, answer.rcode, answer.flag_aa], [77, 'NOERROR', true]);
  assert.deepEqual(dataOf(answer), ['10.96.0.7']);
  const [overTcp] = await askTcp(dns.port, [query('web.shop')]);
  assert.deepEqual(dataOf(overTcp!), ['10.96.0.7']);
  const none = await askUdp(dns.port, query('web.shop', 'AAAA'));
  assert.deepEqual([none.rcode, none.flag_aa, dataOf(none)], ['NOERROR', true, []]);
  assert.deepEqual(other.asked, []);
  assert.deepEqual(dns.counted, ['requested a udp cart', 'requested a tcp cart', 'requested aaaa udp cart']);
  assert.match(
    dns.lines[0]!,
    /\tdebug\tdns\tsrc\.workload="cart" src\.namespace="shop" query="A" domain="web\.shop\." result="success" endpoints=1\n/,
  );
});

test('what the mesh does not know is asked of the other server as it was asked of us, under another id', async () => {
  const other = await upstream(oneAddress);
  const dns = await dnsWith({ servers: [other.address] });
  const message = query('Example.com', 'A', { additionals: [OPT] });
  const ids = new Set<number>();
  for (let round = 0; round < 4; round++) {
    const answer = await askUdp(dns.port, message);
    assert.deepEqual(
      [answer.id, answer.rcode, answer.flag_aa, answer.flag_ra, dataOf(answer)],
      [77, 'NOERROR', false, true, ['192.0.2.1']],
    );
  }
  for (const { bytes, protocol } of other.asked) {
    ids.add(bytes.readUInt16BE(0));
    assert.equal(protocol, 'udp');
    assert.deepEqual(bytes.subarray(2), message.subarray(2));
  }
  assert.ok(ids.size > 1, 'ids are not foreseeable');
  const [overTcp] = await askTcp(dns.port, [message]);
  assert.deepEqual(dataOf(overTcp!), ['192.0.2.1']);
  assert.equal(other.asked.at(-1)?.protocol, 'tcp');
  assert.deepEqual(dns.counted.slice(0, 3), ['requested a udp cart', 'forwarded a udp', 'ended a true well']);
  assert.match(dns.lines[0]!, /domain="example\.com\." result="forwarded" endpoints=1\n/);
});

test('a name that does not exist is said not to, with the proof the server gave; not a failure', async () => {
  const soa = {
    type: 'SOA',
    name: 'com',
    ttl: 60,
    data: { mname: 'ns.com', rname: 'who.com', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 60 },
  } as const;
  const other = await upstream((asked) => [response(asked, { flags: 3, authorities: [soa] })]);
  const dns = await dnsWith({ servers: [other.address] });
  const answer = await askUdp(dns.port, query('nowhere.com'));
  assert.deepEqual([answer.rcode, answer.authorities?.[0]?.type], ['NXDOMAIN', 'SOA']);
  assert.ok(dns.counted.includes('ended a true well'));
});

test('a dead, a refusing and a silent server are passed over; the one that answered is asked first next time', async () => {
  const refusing = await upstream((asked) => [response(asked, { flags: 5 })]);
  const silent = await upstream(() => []);
  const good = await upstream(oneAddress);
  for (const [bad, seen] of [
    [await nobody(), undefined],
    [refusing.address, refusing],
    [silent.address, silent],
  ] as const) {
    const dns = await dnsWith({ servers: [bad, good.address] });
    assert.deepEqual(dataOf(await askUdp(dns.port, query('example.com'))), ['192.0.2.1']);
    const before = seen?.asked.length;
    assert.deepEqual(dataOf(await askUdp(dns.port, query('example.com'))), ['192.0.2.1']);
    assert.equal(seen?.asked.length, before);
    assert.equal(dns.upstreamSockets(), 0);
  }
  const dns = await dnsWith({ servers: [await nobody(), refusing.address, good.address] });
  const [overTcp] = await askTcp(dns.port, [query('example.com')]);
  assert.deepEqual(dataOf(overTcp!), ['192.0.2.1']);
});

test('nobody answers: SERVFAIL, counted as a failure and logged with the reason; a refusal is passed on', async () => {
  const refusing = await upstream((asked) => [response(asked, { flags: 5 })]);
  const dead = await nobody();
  const dns = await dnsWith({ servers: [dead] });
  assert.equal((await askUdp(dns.port, query('example.com'))).rcode, 'SERVFAIL');
  assert.equal((await askTcp(dns.port, [query('example.com')]))[0]?.rcode, 'SERVFAIL');
  assert.deepEqual(
    dns.counted.filter((line) => line.startsWith('ended')),
    ['ended a true failed', 'ended a true failed'],
  );
  assert.match(
    dns.lines[0]!,
    /result="forwarding failed \(no answer about example\.com: 127\.0\.0\.1:\d+: .*ECONNREFUSED/,
  );
  const refused = await dnsWith({ servers: [dead, refusing.address] });
  assert.equal((await askUdp(refused.port, query('example.com'))).rcode, 'REFUSED');
  assert.equal((await askTcp(refused.port, [query('example.com')]))[0]?.rcode, 'REFUSED');
  const silent = await upstream(() => []);
  const slow = await dnsWith({ servers: [silent.address], timeoutMs: 200, attempts: 1 });
  assert.equal((await askUdp(slow.port, query('example.com'))).rcode, 'SERVFAIL');
  const alone = await dnsWith({ servers: [] });
  assert.equal((await askUdp(alone.port, query('example.com'))).rcode, 'SERVFAIL');
  assert.match(alone.lines[0]!, /resolv\.conf names no server/);
  assert.deepEqual(dataOf(await askUdp(alone.port, query('web.shop'))), ['10.96.0.7']);
});

test('a lost datagram is sent again', async () => {
  let count = 0;
  const losing = await upstream((asked, protocol) => (++count === 1 ? [] : oneAddress(asked, protocol)));
  const dns = await dnsWith({ servers: [losing.address] });
  assert.deepEqual(dataOf(await askUdp(dns.port, query('example.com'))), ['192.0.2.1']);
  assert.equal(losing.asked.length, 2);
});

test('forged answers are not believed', async () => {
  const lying = await upstream((asked, protocol) => [
    response({ ...asked, id: ((asked.id ?? 0) + 1) & 0xffff }, { flags: 3 }),
    response({ ...asked, questions: [{ type: 'A', name: 'example.org' }] }, { flags: 3 }),
    Buffer.from('garbage'),
    ...oneAddress(asked, protocol),
  ]);
  const dns = await dnsWith({ servers: [lying.address] });
  assert.deepEqual(dataOf(await askUdp(dns.port, query('example.com'))), ['192.0.2.1']);
});

test('too many addresses for a datagram: cut and marked over UDP, whole over TCP', async () => {
  const dns = await dnsWith({});
  const db = serviceOf({ name: 'db', namespace: 'shop' });
  const endpoints = Array.from({ length: 200 }, (_, index) =>
    workloadOf({
      uid: `db-${index}` as WorkloadUid,
      ips: [ip(`10.1.0.${index}`)],
      services: new Map([[serviceKey('shop', db.hostname), new Map()]]),
    }),
  );
  dns.store.apply({
    addresses: [
      { kind: 'service', service: db },
      ...endpoints.map((workload) => ({ kind: 'workload', workload }) as const),
    ],
  });
  const cut = await askUdp(dns.port, query('db'));
  assert.equal(cut.flag_tc, true);
  assert.ok(dataOf(cut).length > 10 && dataOf(cut).length < 200);
  const [whole] = await askTcp(dns.port, [query('db')]);
  assert.equal(whole!.flag_tc, false);
  assert.equal(new Set(dataOf(whole!)).size, 200);
});

test('a hundred queries in one write are all answered, however slow some of them are', async () => {
  const other = await upstream(oneAddress);
  const dns = await dnsWith({ servers: [other.address] });
  const messages = Array.from({ length: 100 }, (_, id) =>
    query(id % 2 === 0 ? 'web.shop' : `n${id}.example.com`, 'A', { id }),
  );
  const answers = await askTcp(dns.port, messages);
  assert.deepEqual(
    answers.map(({ id }) => id).sort((left, right) => (left ?? 0) - (right ?? 0)),
    messages.map((_, id) => id),
  );
  for (const answer of answers)
    assert.deepEqual(dataOf(answer), [(answer.id ?? 0) % 2 === 0 ? '10.96.0.7' : '192.0.2.1']);
});

test('a query in pieces is answered; its connection ends when the asker ends it', async () => {
  const other = await upstream(oneAddress);
  const dns = await dnsWith({ servers: [other.address] });
  const socket = net.connect(dns.port, '127.0.0.1');
  const answers: Buffer[] = [];
  readMessages(socket, (bytes) => answers.push(bytes));
  const bytes = framed(query('example.com'));
  for (const byte of bytes) {
    socket.write(Buffer.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.end();
  await once(socket, 'close');
  assert.equal(answers.length, 1);
});

test('a TCP message that is too long or no query ends its connection, and only that', async () => {
  const dns = await dnsWith({});
  for (const bytes of [
    Buffer.from('ffff', 'hex'),
    framed(Buffer.from('short')),
    framed(response({ id: 1 } as never)),
  ]) {
    const socket = net.connect(dns.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(bytes);
    await once(socket, 'close');
  }
  assert.deepEqual(dataOf((await askTcp(dns.port, [query('web.shop')]))[0]!), ['10.96.0.7']);
});

test('a pod may hold sixty-four connections; more are closed at once and cost the others nothing', async () => {
  const dns = await dnsWith({});
  const open: net.Socket[] = [];
  closers.push(() => {
    for (const socket of open) socket.destroy();
  });
  let answers = 0;
  for (let index = 0; index < 64; index++) {
    const socket = net.connect(dns.port, '127.0.0.1');
    socket.on('error', () => {});
    readMessages(socket, () => answers++);
    socket.write(framed(query('web.shop')));
    open.push(socket);
  }
  await until('every connection to be served', () => answers === 64);
  await assert.rejects(askTcp(dns.port, [query('web.shop')]), /closed after 0 answers|ECONNRESET|EPIPE/);
  open.pop()?.destroy();
  let again: unknown[] = [];
  await until('a place to be free', () => {
    if (again.length === 0)
      askTcp(dns.port, [query('web.shop')]).then(
        ([answer]) => {
          again = dataOf(answer!);
        },
        () => {}, // not yet
      );
    return again.length > 0;
  });
  assert.deepEqual(again, ['10.96.0.7']);
});

test('a quiet connection is closed, one whose answer is late is not', async () => {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const late = { current: () => undefined, get: () => released.then(() => CART) };
  const dns = await dnsWith({ client: late });
  const waiting = askTcp(dns.port, [query('web.shop')]);
  const quiet = net.connect(dns.port, '127.0.0.1');
  await once(quiet, 'connect');
  // Both have been silent for as long, the first perhaps longer.
  await once(quiet, 'close');
  release();
  assert.deepEqual(dataOf((await waiting)[0]!), ['10.96.0.7']);
});

test('an asker that never reads is not read from any more', async () => {
  const dns = await dnsWith({});
  const socket = net.connect(dns.port, '127.0.0.1');
  socket.on('error', () => {});
  socket.pause();
  const many = Buffer.concat(Array.from({ length: 2000 }, () => framed(query('web.shop'))));
  // What the kernel holds both ways is bounded; beyond that our own buffer must fill.
  let written = 0;
  await until('the asker to be held back', () => {
    if (socket.writableLength > 4 * many.length) return true;
    socket.write(many);
    written += 2000;
    return false;
  });
  const answered = dns.counted.length;
  assert.ok(answered < written, `${answered} of ${written} were answered to nobody`);
  socket.destroy();
  assert.deepEqual(dataOf(await askUdp(dns.port, query('web.shop'))), ['10.96.0.7']);
});

test('beyond the limit of waiting queries the answer is SERVFAIL at once; what the mesh knows is still answered', async () => {
  const silent = await upstream(() => []);
  const budget = createPendingBudget({ perPod: 3, total: 100, reserved: 1 });
  const dns = await dnsWith({ servers: [silent.address], budget });
  const waiting = dgram.createSocket('udp4');
  closers.push(() => waiting.close());
  for (let index = 0; index < 3; index++) waiting.send(query(`n${index}.com`), dns.port, '127.0.0.1');
  await until('three to wait', () => budget.taken === 3);
  assert.equal((await askUdp(dns.port, query('example.com'))).rcode, 'SERVFAIL');
  assert.match(dns.lines.at(-1)!, /result="refused: too many queries wait for an answer"/);
  assert.deepEqual(dataOf(await askUdp(dns.port, query('web.shop'))), ['10.96.0.7']);
  assert.equal(dns.upstreamSockets(), 3);
  dns.close();
  await until('everything to be given up', () => budget.taken === 0 && dns.upstreamSockets() === 0);
});

test('a pod whose record has not come waits for it; without one the answer is SERVFAIL', async () => {
  const arrival = Promise.withResolvers<Workload>();
  let current: Workload | undefined;
  const dns = await dnsWith({ client: { current: () => current, get: () => arrival.promise } });
  const answer = askUdp(dns.port, query('web.shop'));
  await until('the query to wait', () => dns.budget.taken === 1);
  current = CART;
  arrival.resolve(CART);
  assert.deepEqual(dataOf(await answer), ['10.96.0.7']);
  const unknown = await dnsWith({
    client: { current: () => undefined, get: () => Promise.reject(new Error('unknown')) },
  });
  assert.equal((await askUdp(unknown.port, query('web.shop'))).rcode, 'SERVFAIL');
  assert.deepEqual(unknown.counted, ['requested a udp undefined']);
});

test('garbage over UDP leaves the server answering, and never gets more than a refusal', async () => {
  const dns = await dnsWith({});
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  closers.push(() => socket.close());
  const heard: Buffer[] = [];
  socket.on('message', (bytes) => heard.push(bytes));
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), async (bytes) => {
      socket.send(bytes, dns.port, '127.0.0.1');
      assert.deepEqual(dataOf(await askUdp(dns.port, query('web.shop'))), ['10.96.0.7']);
    }),
  );
  for (const bytes of heard) assert.ok(bytes.length <= 12 + 100 + 11);
});

test('two proxies cannot be set against each other with one forged datagram', async () => {
  const dns = await dnsWith({});
  const refusal = encode({ type: 'response', id: 5, flags: 1 });
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  closers.push(() => socket.close());
  let heard = 0;
  socket.on('message', () => heard++);
  socket.send(refusal, dns.port, '127.0.0.1');
  // The next answer comes after whatever the first datagram had caused.
  socket.send(query('web.shop'), dns.port, '127.0.0.1');
  await until('the answer', () => heard > 0);
  assert.equal(heard, 1);
});
