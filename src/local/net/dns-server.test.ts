import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { decode, encode, type Packet, streamEncode } from 'dns-packet';
import fc from 'fast-check';
import { silentLogger } from '#telemetry/log.ts';
import type { ZoneSource } from './dns-records.ts';
import { answer, startDnsServer } from './dns-server.ts';

const many = Array.from({ length: 60 }, (_, index) => ({ addresses: [`10.244.1.${index + 2}`] }));
const zone: ZoneSource = {
  service: (namespace, name) =>
    namespace === 'a' && ['web', 'mid', 'big'].includes(name)
      ? {
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { name, namespace },
          spec: { clusterIP: name === 'web' ? '10.96.1.1' : 'None' },
        }
      : undefined,
  slices: (_namespace, name) =>
    name !== 'web'
      ? [
          {
            apiVersion: 'v1',
            kind: 'EndpointSlice',
            metadata: { name },
            addressType: 'IPv4',
            endpoints: name === 'big' ? many : many.slice(0, 20),
          },
        ]
      : [],
  hasNamespace: () => true,
  allServices: () => [],
};
const deps = { zone, log: silentLogger };
const query = (name: string, type: 'A' | 'AAAA' = 'A'): Buffer =>
  encode({ type: 'query', id: 7, flags: 256, questions: [{ type, name }] });
const rcode = (packet: Packet | undefined): number => (packet?.flags ?? -1) & 0xf;

test('known, unknown and foreign names', () => {
  const known = answer(query('web.a.svc.cluster.local'), deps);
  assert.equal(rcode(known), 0);
  assert.deepEqual(known?.answers, [
    { type: 'A', name: 'web.a.svc.cluster.local', data: '10.96.1.1', ttl: 5 },
  ]);
  assert.equal(known?.id, 7);
  assert.ok(((known?.flags ?? 0) & 1024) !== 0, 'authoritative');

  const other = answer(query('web.a.svc.cluster.local', 'AAAA'), deps);
  assert.equal(rcode(other), 0);
  assert.deepEqual(other?.answers, []);

  const unknown = answer(query('no.a.svc.cluster.local'), deps);
  assert.equal(rcode(unknown), 3);
  assert.equal(unknown?.authorities?.[0]?.type, 'SOA');
  assert.equal(rcode(answer(query('example.com'), deps)), 3);
});

const OPT = {
  type: 'OPT' as const,
  name: '.',
  udpPayloadSize: 4096,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};
const question = { type: 'A' as const, name: 'web.a.svc.cluster.local' };

test('EDNS: answered in kind, another version is refused with BADVERS (RFC 6891 §6.1.3)', () => {
  const ask = (ednsVersion: number): Packet | undefined =>
    answer(
      encode({ type: 'query', id: 7, questions: [question], additionals: [{ ...OPT, ednsVersion }] }),
      deps,
    );
  const known = ask(0)?.additionals?.[0];
  assert.ok(known?.type === 'OPT');
  assert.equal(known.udpPayloadSize, 1232);
  const other = ask(1);
  assert.deepEqual(other?.answers ?? [], []);
  const bad = other?.additionals?.[0];
  assert.ok(bad?.type === 'OPT');
  assert.equal(bad.extendedRcode, 1);
  assert.deepEqual(answer(encode({ type: 'query', id: 7, questions: [question] }), deps)?.additionals, []);
});

test('the zone has its SOA', () => {
  const found = answer(
    encode({ type: 'query', id: 7, questions: [{ type: 'SOA', name: 'cluster.local' }] }),
    deps,
  );
  assert.equal(found?.answers?.[0]?.type, 'SOA');
});

test('an EDNS client gets over UDP what fits into 1232 bytes; bytes that are no query do no harm', async () => {
  const server = await startDnsServer(deps, { host: '127.0.0.1', port: 0 });
  const udp = createSocket('udp4');
  const ask = async (bytes: Uint8Array): Promise<ReturnType<typeof decode>> => {
    udp.send(bytes, server.port, '127.0.0.1');
    const [message] = (await once(udp, 'message')) as [Buffer];
    return decode(message);
  };
  try {
    // 20 answers of 39 bytes each: more than 512, less than 1232.
    const questions = [{ type: 'A' as const, name: 'mid.a.svc.cluster.local' }];
    const plain = await ask(encode({ type: 'query', id: 7, questions }));
    assert.deepEqual([plain.flag_tc, plain.answers?.length], [true, 0]);
    const large = await ask(encode({ type: 'query', id: 7, questions, additionals: [OPT] }));
    assert.deepEqual([large.flag_tc, large.answers?.length], [false, 20]);
    const junk = Buffer.alloc(40, 0xff);
    junk.writeUInt16BE(0, 2);
    assert.equal(rcode(await ask(junk)), 1);
  } finally {
    udp.close();
    await server.close();
  }
});

test('no bytes make it throw, and answers are never answered', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      answer(Buffer.from(bytes), deps);
    }),
  );
  assert.equal(answer(encode({ type: 'response', id: 1, questions: [] }), deps), undefined);
});

test('a large answer is cut on UDP and whole on TCP', async () => {
  const server = await startDnsServer(deps, { host: '127.0.0.1', port: 0 });
  const udp = createSocket('udp4');
  try {
    udp.send(query('big.a.svc.cluster.local'), server.port, '127.0.0.1');
    const [message] = (await once(udp, 'message')) as [Buffer];
    const cut = decode(message);
    assert.equal(cut.flag_tc, true);
    assert.deepEqual(cut.answers, []);

    const tcp = connect(server.port, '127.0.0.1');
    tcp.write(
      streamEncode({ type: 'query', id: 9, questions: [{ type: 'A', name: 'big.a.svc.cluster.local' }] }),
    );
    let held = Buffer.alloc(0);
    for await (const chunk of tcp) {
      held = Buffer.concat([held, chunk as Buffer]);
      if (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) break;
    }
    assert.equal(decode(held.subarray(2)).answers?.length, 60);
  } finally {
    udp.close();
    await server.close();
  }
});
