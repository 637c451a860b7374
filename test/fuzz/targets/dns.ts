// DNS messages: questions to the node proxy and answers of the servers it asks, and the embedded cluster's own server.

import assert from 'node:assert/strict';
import { decode, encode, type Packet } from 'dns-packet';
import {
  encodeAnswer,
  encodeFormatError,
  encodeRefusal,
  isAnswerTo,
  parseQuery,
  type Query,
  rcodeOf,
  relayAnswer,
  udpLimit,
} from '#dns/message.ts';
import { answer } from '#local/net/dns-server.ts';
import { ip } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import { kindOf, pickedBy, type Target } from '../target.ts';

const OPT = {
  ...{ type: 'OPT' as const, name: '.', udpPayloadSize: 1232, extendedRcode: 0, ednsVersion: 0 },
  ...{ flags: 0x8000, flag_do: true, options: [] },
};
const question = (name: string, type: 'A' | 'AAAA' | 'SRV', rest: Partial<Packet> = {}): Buffer =>
  encode({ type: 'query', id: 4711, flags: 256, questions: [{ name, type }], ...rest });

const QUESTIONS = (): readonly Buffer[] => [
  question('web.shop.svc.cluster.local', 'A'),
  question('Web.Shop', 'AAAA', { additionals: [OPT] }),
  question('_http._tcp.web.shop', 'SRV', { answers: [{ type: 'A', name: 'x', data: '1.2.3.4' }] }),
];

const TOKENS = [
  Buffer.from('c00c', 'hex'),
  Buffer.from('0377656200', 'hex'),
  Buffer.from('3f', 'hex'),
  Buffer.from('000029100000008000000000'.slice(0, 22), 'hex'),
];

const questions: Target = {
  name: 'dns-questions',
  seeds: QUESTIONS,
  tokens: TOKENS,
  run(input) {
    const parsed = parseQuery(input);
    if (parsed.kind === 'ignored') return 'ignored';
    if (parsed.kind === 'refused') {
      assert.equal(encodeFormatError(input, parsed.rcode).length, 12);
      return kindOf(parsed.reason);
    }
    return answered(parsed.query);
  },
};

function answered(query: Query): string {
  const addresses = Array.from({ length: pickedBy(query.question, 40) }, (_, at) =>
    ip(at % 2 === 0 ? `10.0.0.${at}` : `fd00::${at}`),
  );
  const canonicalName = query.question.length % 2 === 0 ? undefined : 'api.example.com';
  const limit = udpLimit(query);
  for (const bytes of [
    encodeAnswer(query, { addresses, canonicalName, ttlSeconds: 30 }, limit),
    encodeRefusal(query, 2),
  ]) {
    assert.ok(bytes.length <= limit, `an answer of ${bytes.length} bytes to one who takes ${limit}`);
    assert.ok(isAnswerTo(query, query.id, bytes));
    // A public library reads what we write.
    const read = decode(bytes);
    assert.deepEqual([read.id, read.questions?.length], [query.id, 1]);
  }
  return `${query.name === undefined ? 'odd' : 'name'} ${query.edns === undefined} ${query.edns?.dnssecOk}`;
}

const ASKED = ((): Query => {
  const parsed = parseQuery(encode({ type: 'query', id: 1, questions: [{ name: 'web.shop', type: 'A' }] }));
  if (parsed.kind !== 'query') throw new Error('the question of the fuzzer is none');
  return parsed.query;
})();

const answers: Target = {
  name: 'dns-answers',
  seeds: () => {
    const to = { type: 'response' as const, id: 99, questions: [{ name: 'web.shop', type: 'A' as const }] };
    return [
      encode({
        ...to,
        answers: [{ type: 'A', name: 'web.shop', data: '1.2.3.4', ttl: 5 }],
        additionals: [OPT],
      }),
      encode({ ...to, flags: 3, authorities: [{ type: 'NS', name: 'shop', data: 'ns.shop' }] }),
      encode({ type: 'response', id: 99, flags: 1 }),
    ];
  },
  tokens: TOKENS,
  run(input) {
    if (!isAnswerTo(ASKED, 99, input)) return 'not an answer';
    const rcode = rcodeOf(input);
    const limit = 512 + pickedBy(input, 1000);
    const relayed = relayAnswer(ASKED, Buffer.from(input), limit);
    assert.ok(relayed.length <= Math.max(limit, 12));
    assert.equal(relayed.readUInt16BE(0), ASKED.id);
    assert.equal(rcodeOf(relayed), rcode);
    return `${rcode} ${relayed.length < input.length}`;
  },
};

const cluster: Target = {
  name: 'dns-cluster',
  seeds: () => [...QUESTIONS(), question('web.shop.svc.cluster.local', 'SRV', { additionals: [OPT] })],
  tokens: [...TOKENS, Buffer.from('0373766307636c7573746572056c6f63616c00', 'hex')],
  run(input) {
    const packet = answer(input, {
      zone: {
        service: (namespace, name) => ({
          ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace } },
          spec: { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] },
        }),
        slices: () => [],
        hasNamespace: () => true,
        allServices: () => [],
      },
      log: silentLogger,
    });
    if (packet === undefined) return 'ignored';
    const bytes = encode(packet);
    assert.ok(bytes.length <= 1500 + 2 * input.length, `${bytes.length} bytes`);
    return `${(packet.flags ?? 0) & 0xf} ${packet.answers?.length} ${packet.authorities?.length}`;
  },
};

export const DNS_TARGETS: readonly Target[] = [questions, answers, cluster];
