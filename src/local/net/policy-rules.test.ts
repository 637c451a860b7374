import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '#k8s/objects.ts';
import { type Allow, isolationOf, type PolicyPod, type PolicyWorld } from './policy-rules.ts';
import { addressNumber, includes } from './ranges.ts';

const pod = (namespace: string, app: string, ip: string, over: Partial<PolicyPod> = {}): PolicyPod => ({
  namespace,
  labels: { app },
  ip,
  namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  ...over,
});
const NAMESPACES = new Map([
  ['shop', { team: 'a' }],
  ['other', { team: 'b' }],
]);
const WEB = pod('shop', 'web', '10.244.1.2');
const CART = pod('shop', 'cart', '10.244.1.3');
const FOREIGN = pod('other', 'web', '10.244.2.2', {
  namedPorts: [{ name: 'http', protocol: 'TCP', port: 9090 }],
});
const policy = (spec: NetworkPolicy['spec'], namespace = 'shop'): NetworkPolicy => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'p', namespace },
  ...(spec === undefined ? {} : { spec }),
});
const world = (...policies: NetworkPolicy[]): PolicyWorld => ({
  policies,
  pods: [WEB, CART, FOREIGN],
  namespaces: NAMESPACES,
});
const passes = (
  allows: readonly Allow[] | undefined,
  peer: string,
  protocol: string,
  port: number,
): boolean =>
  allows === undefined ||
  allows.some(
    ({ peers, ports }) =>
      (peers === 'any' || includes(peers, addressNumber(peer) ?? -1)) &&
      (ports === 'any' || ports.some((range) => range.protocol === protocol && includes([range], port))),
  );

test('a pod that no policy selects is open; the types default to what the policy has', () => {
  assert.deepEqual(isolationOf(FOREIGN, world(policy({ podSelector: {} }))), {
    ingress: undefined,
    egress: undefined,
  });
  assert.deepEqual(isolationOf(WEB, world(policy({ podSelector: {} }))), { ingress: [], egress: undefined });
  assert.deepEqual(isolationOf(WEB, world(policy({ podSelector: {}, policyTypes: ['Egress'] }))), {
    ingress: undefined,
    egress: [],
  });
  assert.deepEqual(isolationOf(WEB, world(policy({ podSelector: {}, egress: [{}] }))), {
    ingress: [],
    egress: [{ peers: 'any', ports: 'any' }],
  });
});

test('policies add up', () => {
  const deny = policy({ podSelector: {} });
  const open = policy({
    podSelector: { matchLabels: { app: 'web' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'cart' } } }], ports: [{ port: 80 }] }],
  });
  const { ingress } = isolationOf(WEB, world(deny, open));
  assert.equal(passes(ingress, CART.ip, 'tcp', 80), true);
  assert.equal(passes(ingress, CART.ip, 'tcp', 81), false);
  assert.equal(passes(ingress, CART.ip, 'udp', 80), false, 'the protocol is TCP unless told otherwise');
  assert.equal(passes(ingress, FOREIGN.ip, 'tcp', 80), false);
  assert.deepEqual(isolationOf(CART, world(deny, open)).ingress, []);
});

test('a pod selector alone means the own namespace, with a namespace selector both must fit', () => {
  const from = (...peers: NetworkPolicyPeer[]): readonly Allow[] | undefined =>
    isolationOf(CART, world(policy({ podSelector: {}, ingress: [{ from: peers }] }))).ingress;
  const web: LabelSelector = { matchLabels: { app: 'web' } };
  const teamB: LabelSelector = { matchLabels: { team: 'b' } };
  const open = (allows: readonly Allow[] | undefined): boolean[] =>
    [WEB, FOREIGN].map(({ ip }) => passes(allows, ip, 'tcp', 1));
  assert.deepEqual(open(from({ podSelector: web })), [true, false]);
  assert.deepEqual(open(from({ namespaceSelector: teamB })), [false, true]);
  assert.deepEqual(open(from({ podSelector: web, namespaceSelector: {} })), [true, true]);
  assert.deepEqual(open(from({ podSelector: { matchLabels: { app: 'x' } }, namespaceSelector: teamB })), [
    false,
    false,
  ]);
  assert.deepEqual(open(from({ podSelector: {} }, { namespaceSelector: teamB })), [true, true]);
});

test('named ports: of the pod itself inwards, of each other pod outwards', () => {
  const ports = [{ port: 'http' }];
  const { ingress, egress } = isolationOf(
    WEB,
    world(
      policy({ podSelector: {}, ingress: [{ ports }], egress: [{ to: [{ namespaceSelector: {} }], ports }] }),
    ),
  );
  assert.equal(passes(ingress, '192.0.2.1', 'tcp', 8080), true);
  assert.equal(passes(ingress, '192.0.2.1', 'tcp', 9090), false);
  assert.equal(passes(egress, CART.ip, 'tcp', 8080), true);
  assert.equal(passes(egress, FOREIGN.ip, 'tcp', 9090), true);
  assert.equal(passes(egress, FOREIGN.ip, 'tcp', 8080), false);
});

test('address blocks with holes, port ranges', () => {
  const { egress } = isolationOf(
    WEB,
    world(
      policy({
        podSelector: {},
        policyTypes: ['Egress'],
        egress: [
          {
            to: [{ ipBlock: { cidr: '192.0.2.0/24', except: ['192.0.2.64/26', '192.0.2.0/32'] } }],
            ports: [{ port: 8000, endPort: 8010, protocol: 'UDP' }],
          },
        ],
      }),
    ),
  );
  const cases: readonly (readonly [string, number, boolean])[] = [
    ['192.0.2.0', 8000, false],
    ['192.0.2.1', 8000, true],
    ['192.0.2.63', 8010, true],
    ['192.0.2.64', 8000, false],
    ['192.0.2.127', 8000, false],
    ['192.0.2.128', 8000, true],
    ['192.0.2.255', 8011, false],
    ['192.0.3.0', 8000, false],
  ];
  for (const [ip, port, expected] of cases)
    assert.equal(passes(egress, ip, 'udp', port), expected, `${ip}:${port}`);
});

test('a pod that shares its address is reached at its own ports only', () => {
  const dns = pod('other', 'dns', '172.31.0.1', {
    namedPorts: [{ name: 'dns', protocol: 'UDP', port: 53 }],
    onlyPorts: [{ protocol: 'udp', first: 53, last: 53 }],
  });
  const outward = (ports?: NetworkPolicyPort[]): readonly Allow[] | undefined =>
    isolationOf(WEB, {
      policies: [
        policy({
          podSelector: {},
          policyTypes: ['Egress'],
          egress: [{ to: [{ namespaceSelector: {} }], ...(ports === undefined ? {} : { ports }) }],
        }),
      ],
      pods: [WEB, dns],
      namespaces: NAMESPACES,
    }).egress;
  for (const ports of [
    undefined,
    [{ protocol: 'UDP' }, { protocol: 'TCP' }],
    [{ port: 'dns', protocol: 'UDP' }],
  ]) {
    assert.equal(passes(outward(ports), dns.ip, 'udp', 53), true);
    assert.equal(passes(outward(ports), dns.ip, 'tcp', 16_443), false);
  }
});

// What the API says about one packet, word by word, to compare with. Nothing of the code above is used.
interface Packet {
  readonly source: PolicyPod | string;
  readonly target: PolicyPod | string;
  readonly protocol: string;
  readonly port: number;
}
const addressOf = (end: PolicyPod | string): string => (typeof end === 'string' ? end : end.ip);
const inBlock = (address: string, cidr: string): boolean => {
  const [network = '', bits = ''] = cidr.split('/');
  const binary = (ip: string): string =>
    ip
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('');
  return binary(address).slice(0, Number(bits)) === binary(network).slice(0, Number(bits));
};
const fits = (selector: LabelSelector | undefined, labels: Readonly<Record<string, string>>): boolean =>
  Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
function allowedByWord(
  { policies, namespaces }: PolicyWorld,
  packet: Packet,
  side: 'Ingress' | 'Egress',
): boolean {
  const self = side === 'Ingress' ? packet.target : packet.source;
  const peer = side === 'Ingress' ? packet.source : packet.target;
  if (typeof self === 'string') return true;
  let isolated = false;
  for (const { metadata, spec } of policies) {
    if (metadata.namespace !== self.namespace || !fits(spec?.podSelector, self.labels)) continue;
    const types = spec?.policyTypes ?? (spec?.egress?.length ? ['Ingress', 'Egress'] : ['Ingress']);
    if (!types.includes(side)) continue;
    isolated = true;
    const rules: { peers?: NetworkPolicyPeer[]; ports?: NetworkPolicyPort[] }[] =
      side === 'Ingress'
        ? (spec?.ingress ?? []).map(({ from, ports }) => ({ peers: from ?? [], ports: ports ?? [] }))
        : (spec?.egress ?? []).map(({ to, ports }) => ({ peers: to ?? [], ports: ports ?? [] }));
    for (const { peers = [], ports = [] } of rules) {
      const portFits =
        ports.length === 0 ||
        ports.some(({ protocol = 'TCP', port, endPort }) => {
          if (protocol.toLowerCase() !== packet.protocol) return false;
          if (port === undefined) return true;
          if (typeof port === 'number') return port <= packet.port && packet.port <= (endPort ?? port);
          const declared = typeof packet.target === 'string' ? [] : packet.target.namedPorts;
          return declared.some((d) => d.name === port && d.protocol === protocol && d.port === packet.port);
        });
      const peerFits =
        peers.length === 0 ||
        peers.some(({ ipBlock, podSelector, namespaceSelector }) => {
          if (ipBlock !== undefined)
            return (
              inBlock(addressOf(peer), ipBlock.cidr) &&
              !(ipBlock.except ?? []).some((hole) => inBlock(addressOf(peer), hole)) &&
              // A name of a port means nothing for an address.
              (side === 'Ingress' ||
                ports.length === 0 ||
                typeof peer === 'string' ||
                portFitsByNumber(ports, packet))
            );
          if (typeof peer === 'string') return false;
          const space =
            namespaceSelector === undefined
              ? peer.namespace === metadata.namespace
              : fits(namespaceSelector, namespaces.get(peer.namespace) ?? {});
          return space && fits(podSelector, peer.labels);
        });
      if (portFits && peerFits) return true;
    }
  }
  return !isolated;
}
const portFitsByNumber = (ports: readonly NetworkPolicyPort[], packet: Packet): boolean =>
  ports.some(
    ({ protocol = 'TCP', port, endPort }) =>
      protocol.toLowerCase() === packet.protocol &&
      (port === undefined ||
        (typeof port === 'number' && port <= packet.port && packet.port <= (endPort ?? port))),
  );

test('whatever the policies, the rules let through what the policies say', () => {
  const selector = fc.oneof(
    fc.constant<LabelSelector>({}),
    fc.constantFrom('web', 'cart').map((app): LabelSelector => ({ matchLabels: { app } })),
  );
  const space = fc.oneof(
    fc.constant<LabelSelector>({}),
    fc.constantFrom('a', 'b').map((team): LabelSelector => ({ matchLabels: { team } })),
  );
  const peer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
    selector.map((podSelector) => ({ podSelector })),
    space.map((namespaceSelector) => ({ namespaceSelector })),
    fc.tuple(selector, space).map(([podSelector, namespaceSelector]) => ({ podSelector, namespaceSelector })),
    fc.constantFrom<NetworkPolicyPeer>(
      { ipBlock: { cidr: '10.244.0.0/16' } },
      { ipBlock: { cidr: '10.244.1.0/24', except: ['10.244.1.2/31'] } },
      { ipBlock: { cidr: '0.0.0.0/0', except: ['192.0.2.0/24', '10.244.2.0/24'] } },
    ),
  );
  const port: fc.Arbitrary<NetworkPolicyPort> = fc.constantFrom<NetworkPolicyPort>(
    {},
    { port: 80 },
    { port: 'http' },
    { port: 8000, endPort: 8100 },
    { port: 53, protocol: 'UDP' },
    { protocol: 'UDP' },
  );
  const rule = fc.record({
    peers: fc.array(peer, { maxLength: 2 }),
    ports: fc.array(port, { maxLength: 2 }),
  });
  const anyPolicy = fc
    .record({
      namespace: fc.constantFrom('shop', 'other'),
      podSelector: selector,
      policyTypes: fc.option(fc.subarray(['Ingress', 'Egress'] as const, { minLength: 1 }), {
        nil: undefined,
      }),
      ingress: fc.array(rule, { maxLength: 2 }),
      egress: fc.array(rule, { maxLength: 2 }),
    })
    .map(({ namespace, podSelector, policyTypes, ingress, egress }) =>
      policy(
        {
          podSelector,
          ...(policyTypes === undefined ? {} : { policyTypes: [...policyTypes] }),
          ingress: ingress.map(({ peers, ports }) => ({ from: peers, ports })),
          egress: egress.map(({ peers, ports }) => ({ to: peers, ports })),
        },
        namespace,
      ),
    );
  const ends: readonly (PolicyPod | string)[] = [WEB, CART, FOREIGN, '192.0.2.1', '198.51.100.1'];
  fc.assert(
    fc.property(fc.array(anyPolicy, { maxLength: 4 }), (policies) => {
      const all = world(...policies);
      for (const source of ends)
        for (const target of ends)
          for (const protocol of ['tcp', 'udp'])
            for (const number of [53, 80, 8050, 8080, 9090]) {
              if (source === target) continue;
              const packet = { source, target, protocol, port: number };
              const what = `${addressOf(source)} to ${addressOf(target)} ${protocol} ${number}`;
              if (typeof target !== 'string')
                assert.equal(
                  passes(isolationOf(target, all).ingress, addressOf(source), protocol, number),
                  allowedByWord(all, packet, 'Ingress'),
                  `in: ${what}`,
                );
              if (typeof source !== 'string')
                assert.equal(
                  passes(isolationOf(source, all).egress, addressOf(target), protocol, number),
                  allowedByWord(all, packet, 'Egress'),
                  `out: ${what}`,
                );
            }
    }),
    { numRuns: 150 },
  );
});

test('a pod with two addresses: each is judged by peers and blocks of its own family', () => {
  const web6 = { ...WEB, ip: 'fd00:10:244:1::2' };
  const cart6 = { ...CART, ip: 'fd00:10:244:1::3' };
  const blocks = policy({
    podSelector: { matchLabels: { app: 'web' } },
    ingress: [
      {
        from: [
          { podSelector: { matchLabels: { app: 'cart' } } },
          { ipBlock: { cidr: 'fd99::/64', except: ['fd99::8/125'] } },
          { ipBlock: { cidr: '192.0.2.0/24' } },
        ],
      },
    ],
  });
  const both = { ...world(blocks), pods: [WEB, CART, FOREIGN, web6, cart6] };
  const open = (pod: PolicyPod, peer: string): boolean =>
    passes(isolationOf(pod, both).ingress, peer, 'tcp', 80);
  for (const [pod, peer, expected] of [
    [web6, 'fd00:10:244:1::3', true],
    [web6, 'fd00:10:244:1::4', false],
    [web6, 'fd99::7', true],
    [web6, 'fd99::8', false],
    [web6, 'fd99::10', true],
    [web6, 'fd99:0:0:1::1', false],
    [WEB, '10.244.1.3', true],
    [WEB, '192.0.2.9', true],
  ] as const)
    assert.equal(open(pod, peer), expected, `${peer} to ${pod.ip}`);
  const { ingress = [] } = isolationOf(web6, both);
  assert.ok(
    ingress.every(({ peers }) => peers === 'any' || peers.every(({ first }) => typeof first === 'bigint')),
  );
});
